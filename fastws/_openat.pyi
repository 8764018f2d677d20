from .messages import Identity

side: str
DEEPEST: int

def open_beneath(directory: int, path: str) -> int: ...
def look(fd: int) -> tuple[int, Identity]: ...
