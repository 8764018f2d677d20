DECISIVE_FIELDS: dict[str, int]
