from .http.messages import Fields, Limits, Request

side: str

def parse_request(data: bytes, start: int, scanned: int, limits: Limits) -> Request | None: ...
def build_head(status: int, fields: Fields) -> bytes: ...
def format_access_line(
    log_format: str,
    peer: str,
    user: str,
    time: str,
    request_line: str,
    status: int,
    size: int,
    referer: str,
    agent: str,
) -> bytes: ...
def scan_benchmark(data: bytes, repeats: int) -> float: ...
