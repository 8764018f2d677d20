"""File name extensions and their content types (RFC 9110 section 8.3), and which types are worth compressing.

Text is declared to be UTF-8 where nobody said otherwise. JSON and XML (SVG among it) are left alone: JSON has
no charset parameter (RFC 8259 section 11), and for XML the parameter would overrule the encoding that the
document itself declares (RFC 7303 section 3.2), while a document without a declaration is UTF-8 already.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from types import MappingProxyType

from ..language.named_tuple import NamedTuple
from .urlpath import glob_pattern

_UTF8_OUTSIDE_TEXT = frozenset(
    {"application/javascript", "application/x-javascript", "application/ecmascript"}
)
_OWN_ENCODING = frozenset({"text/xml"})


def with_charset(content_type: str) -> str:
    """``content_type`` with ``; charset=utf-8`` where it is text and names no charset itself."""
    media_type, _, parameters = content_type.partition(";")
    essence = media_type.strip().lower()
    is_text = essence.startswith("text/") and essence not in _OWN_ENCODING
    if "charset=" in parameters.lower() or not (is_text or essence in _UTF8_OUTSIDE_TEXT):
        return content_type
    return f"{content_type}; charset=utf-8"


def content_type(path: str, table: Mapping[str, str], default: str | None) -> str | None:
    """The content type of the file at ``path`` by its last extension, in any case.

    ``table`` maps a lower-case extension with its dot to the value of Content-Type. ``default`` is returned
    for a name without an extension (a leading dot begins none) and for an extension not in the table.
    """
    return table.get(extension_of(path), default)


def extension_of(path: str) -> str:
    """The last extension of the file at ``path``, with its dot and in lower case; '' where there is none."""
    dot = path.rfind(".")
    return path[dot:].lower() if dot > path.rfind("/") + 1 else ""


class MediaTypes(NamedTuple):
    """What a configuration says of the content of files; ``of`` makes one.

    ``types`` and ``codings`` are by lower-case extension, ``names`` are the types of whole lower-case names
    without one. Patterns are of whole paths: they go before extensions, the first that matches before the others.
    """

    types: Mapping[str, str]
    names: Mapping[str, str]
    default: str | None
    codings: Mapping[str, str]
    type_patterns: tuple[tuple[re.Pattern[str], str], ...] = ()
    coding_patterns: tuple[tuple[re.Pattern[str], str], ...] = ()

    @staticmethod
    def of(
        table: Mapping[str, str],
        added: Mapping[str, str],
        codings: Mapping[str, str],
        default: str | None,
        *,
        with_names: bool,
    ) -> MediaTypes:
        """Make one of ``table`` and of the types and content codings that extensions and globs add to it.

        A coding ``off`` takes one away. ``with_names`` adds the names without an extension that everybody
        knows, such as LICENSE.
        """
        codings = {key: "" if coding == "off" else coding for key, coding in codings.items()}
        return MediaTypes(
            {**table, **_of_extensions(added)},
            _NAMES if with_names else {},
            default,
            {**_CODINGS, **_of_extensions(codings)},
            _of_globs(added),
            _of_globs(codings),
        )

    def describe(self, path: str) -> tuple[str | None, str]:
        """Return what ``known`` and ``coding`` do, at the cost of one of them where the extension decides both."""
        extension = extension_of(path)
        types, _, _, codings, type_patterns, coding_patterns = self
        if not extension or extension in _CODED_SUFFIXES or type_patterns or coding_patterns:
            return self.known(path), self.coding(path)
        return types.get(extension), codings.get(extension, "")

    def find(self, path: str) -> str | None:
        """The type of the file at ``path`` below the root, None where nothing is known and there is no default."""
        return self.known(path) or self.default

    def known(self, path: str) -> str | None:
        """The same without the default. The type of a file in a content coding is that of what it unpacks to."""
        if self.type_patterns and (kind := _first_match(self.type_patterns, path)) is not None:
            return kind
        extension = extension_of(path)
        if not extension:
            return self.names.get(path[path.rfind("/") + 1 :].lower())
        if extension in _CODED_SUFFIXES and self.coding(path):
            return self.known(path[: -len(extension)])
        return self.types.get(extension)

    def coding(self, path: str) -> str:
        """The content coding that the file at ``path`` is stored in and sent with, '' for none."""
        if self.coding_patterns and (coding := _first_match(self.coding_patterns, path)) is not None:
            return coding
        return self.codings.get(extension_of(path), "")


def _of_extensions(given: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in given.items() if key.startswith(".")}


def _of_globs(given: Mapping[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple([(glob_pattern(key), value) for key, value in given.items() if not key.startswith(".")])


def _first_match(patterns: tuple[tuple[re.Pattern[str], str], ...], path: str) -> str | None:
    whole = path if path.startswith("/") else "/" + path
    return next((value for pattern, value in patterns if pattern.fullmatch(whole)), None)


_COMPRESSIBLE = frozenset(
    {
        "application/ecmascript",
        "application/javascript",
        "application/json",
        "application/postscript",
        "application/rtf",
        "application/sql",
        "application/toml",
        "application/vnd.ms-fontobject",
        "application/wasm",
        "application/x-javascript",
        "application/x-ndjson",
        "application/xml",
        "application/yaml",
        "font/otf",
        "font/ttf",
        "image/bmp",
        "image/vnd.microsoft.icon",
        "image/x-icon",
    }
)


@functools.lru_cache(maxsize=256)
def is_compressible(content_type: str) -> bool:
    """Tell whether compressing usually pays: text, JSON, XML and what else is not compressed already."""
    essence = content_type.partition(";")[0].strip().lower()
    return essence.startswith("text/") or essence.endswith(("+json", "+xml")) or essence in _COMPRESSIBLE


_EXTENSIONS_BY_TYPE = {
    # documents and what a page is made of
    "text/html": ".html .htm",
    "application/xhtml+xml": ".xhtml",
    "text/css": ".css",
    "text/javascript": ".js .mjs .cjs",
    "application/json": ".json .map",
    "application/ld+json": ".jsonld",
    "application/geo+json": ".geojson",
    "application/x-ndjson": ".ndjson .jsonl",
    "application/manifest+json": ".webmanifest",
    "application/wasm": ".wasm",
    "application/xml": ".xml .xsl .xsd",
    "application/rss+xml": ".rss",
    "application/atom+xml": ".atom",
    # text
    "text/plain": ".txt .text .log .conf .cfg .ini .diff .patch .c .h .cpp .hpp .rs .go .java .sh .tex .rst",
    "text/markdown": ".md .markdown",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "text/vtt": ".vtt",
    "text/calendar": ".ics",
    "text/vcard": ".vcf",
    "text/x-python": ".py .pyi .pyx .pxd",
    "application/yaml": ".yaml .yml",
    "application/toml": ".toml",
    "application/sql": ".sql",
    "application/rtf": ".rtf",
    # images
    "image/png": ".png",
    "image/apng": ".apng",
    "image/jpeg": ".jpg .jpeg .jfif",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/avif": ".avif",
    "image/jxl": ".jxl",
    "image/heic": ".heic",
    "image/svg+xml": ".svg .svgz",
    "image/vnd.microsoft.icon": ".ico",
    "image/bmp": ".bmp",
    "image/tiff": ".tif .tiff",
    # fonts
    "font/woff2": ".woff2",
    "font/woff": ".woff",
    "font/ttf": ".ttf",
    "font/otf": ".otf",
    "application/vnd.ms-fontobject": ".eot",
    # sound and film
    "audio/mpeg": ".mp3",
    "audio/mp4": ".m4a",
    "audio/aac": ".aac",
    "audio/ogg": ".ogg .oga .opus",
    "audio/flac": ".flac",
    "audio/wav": ".wav",
    "audio/webm": ".weba",
    "audio/midi": ".mid .midi",
    "video/mp4": ".mp4 .m4v",
    "video/webm": ".webm",
    "video/ogg": ".ogv",
    "video/quicktime": ".mov",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
    "video/mp2t": ".ts",
    "application/vnd.apple.mpegurl": ".m3u8",
    "application/dash+xml": ".mpd",
    # documents to download, and 3D
    "application/pdf": ".pdf",
    "application/epub+zip": ".epub",
    "application/postscript": ".ps .eps",
    "application/msword": ".doc",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.ms-powerpoint": ".ppt",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.oasis.opendocument.text": ".odt",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
    "application/vnd.oasis.opendocument.presentation": ".odp",
    "model/gltf+json": ".gltf",
    "model/gltf-binary": ".glb",
    # archives and packages
    "application/zip": ".zip .whl",
    "application/gzip": ".gz .tgz",
    "application/x-bzip2": ".bz2",
    "application/x-xz": ".xz",
    "application/zstd": ".zst",
    "application/x-tar": ".tar",
    "application/x-7z-compressed": ".7z",
    "application/vnd.rar": ".rar",
    "application/java-archive": ".jar",
    "application/vnd.android.package-archive": ".apk",
    "application/vnd.debian.binary-package": ".deb",
    "application/x-rpm": ".rpm",
    "application/vnd.sqlite3": ".sqlite .sqlite3",
    "application/octet-stream": ".bin .exe .dll .so .dmg .iso .img .msi",
}

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        extension: with_charset(media_type)
        for media_type, extensions in _EXTENSIONS_BY_TYPE.items()
        for extension in extensions.split()
    }
)
"""Lower-case extension with its dot → Content-Type, for a configuration without ContentType lines."""

_NAMES: Mapping[str, str] = dict.fromkeys(
    (
        "authors", "changelog", "changes", "contributing", "contributors", "copying", "copyright", "credits",
        "dockerfile", "gemfile", "history", "install", "licence", "license", "maintainers", "makefile", "news",
        "notice", "procfile", "rakefile", "readme", "security", "thanks", "todo", "unlicense", "vagrantfile",
        "version",
    ),
    with_charset("text/plain"),
)  # fmt: skip
"""Lower-case names without an extension that hold text everywhere."""

_CODINGS = {".svgz": "gzip"}
"""Extensions of files that are always in a coding: browsers show an SVG picture that says so, and no other."""

_CODED_SUFFIXES = frozenset({".br", ".gz", ".zst"})
"""Extensions that say only how the rest of the name is packed."""
