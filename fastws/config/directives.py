"""The table of directives: everything that ``ws.conf`` may say, each row with its parser, default and help.

``python -m fastws.config.directives`` prints the table as docs/configuration.md; a test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..http import mediatypes
from ..http.forwarded import CLIENT_HEADERS
from ..language.named_tuple import NamedTuple
from . import values as v
from .endpoints import parse_listen
from .redirects import parse_redirect
from .secure import LONGEST_AGE_S, parse_certificate, parse_versions

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Directive(NamedTuple):
    """One row: a directive and the field of ``Config`` that holds its value.

    ``syntax`` shows the words after the name, of which ``least`` to ``most`` must be there. ``default`` is
    written as in the file; where it is empty, ``unset`` is the value. A ``repeatable`` directive adds the
    tuple or mapping of each of its lines to those before. ``flag`` is the command-line option that
    overrides it, ``aliases`` are others that do the same; where ``flag_value`` is given, the option takes no value
    and stands for that one. ``joint`` stands between the two words of a line on the command line, where the option
    of a repeatable directive may be repeated.
    """

    name: str
    field: str
    syntax: str
    parse: v.Parse
    default: str
    help: str
    least: int = 1
    most: int = 1
    repeatable: bool = False
    unset: Any = None
    flag: str = ""
    aliases: tuple[str, ...] = ()
    flag_value: str = ""
    joint: str = ""


ANY = 1000  # words: as many as the line holds

GROUPS: Mapping[str, tuple[Directive, ...]] = {
    "Where it listens": (
        Directive("Host", "hosts", "ADDRESS...", v.parse_hosts, "127.0.0.1",
            "IPv4 and IPv6 addresses to listen on, every port on each; `0.0.0.0` is every IPv4 address, `::`"
            " every IPv6 one, `0.0.0.0,::` both. A name such as `localhost` stands for all of its addresses.",
            most=ANY, repeatable=True, flag="--host", aliases=("-b", "--bind")),
        Directive("ListenPort", "listen_ports", "PORT...", v.parse_ports, "",
            "TCP ports from 1024 to 65535, each served by all threads. Required in a file unless `Listen`, socket"
            " activation or the environment variable PORT replaces it; without a file it is 8080. Lower ports"
            " need `User`, `--port`, PORT or socket activation.",
            most=ANY, repeatable=True, unset=(), flag="--port", aliases=("-p",)),
        Directive("Listen", "listen", "[ADDRESS:]PORT [KIND] [proxy]|unix:PATH [MODE] [proxy]", parse_listen, "",
            "Another address to listen on: a port on every `Host`, on one address (`[::1]:8443`), or a Unix-domain"
            " socket. KIND is `plain` (the default), `tls`, or `redirect`: see below. MODE is the permissions of a"
            " Unix-domain socket in octal digits, such as `0660`; without it they are `0666`. With `proxy` at the"
            " end, connections begin with the preamble of a proxy: see ProxyProtocol.",
            most=3, repeatable=True, unset=()),
        Directive("ReusePort", "reuse_port", "on|off", v.parse_reuse_port, "off",
            "Bind TCP ports so that other servers of the same account may listen on them too (SO_REUSEPORT); the"
            " kernel spreads new connections over all of them. Linux alone."),
        Directive("PidFile", "pid_file", "FILE", v.optional(v.parse_path), "off",
            "File that names the server's process while it serves, for `fastws upgrade` and programs that send"
            " signals. Its directory must be one that the server's account may write."),
        Directive("User", "user", "NAME", v.parse_user, "",
            "Account to change to once the sockets are bound, when started as root."),
    ),
    "Behind a proxy": (
        Directive("TrustedProxies", "trusted_proxies", "NETWORK...", v.parse_proxies, "",
            "Addresses and networks of proxies, such as `10.0.0.0/8`, and `unix` for all that connect to a"
            " Unix-domain socket. What they say about their clients is believed, and nobody else is; see below.",
            most=ANY, repeatable=True, unset=()),
        Directive("ProxyProtocol", "proxy_protocol", "on|off", v.parse_switch, "off",
            "Whether every connection begins with the preamble of the PROXY protocol, version 1 or 2, which names"
            " the client; `proxy` in a Listen line says so of one address. Connections from others than"
            " TrustedProxies are closed, as are those without a preamble."),
        Directive("ClientHeader", "client_header", "any|Forwarded|X-Forwarded-For|X-Real-IP",
            v.choice_of(*CLIENT_HEADERS), "any",
            "The field by which TrustedProxies name their clients. With `any` it is the one that is there; a"
            " request with several that contradict each other is 400. Name the one that the proxy sets: clients"
            " may send the others."),
    ),
    "TLS": (
        Directive("TLSCertificate", "tls_certificates", "CERTIFICATE KEY", parse_certificate, "",
            "PEM files of a certificate with its chain, and of its private key, which only its owner and group"
            " may read. Of several lines a client gets the first that is for the name it asks for, an exact name"
            " before a wildcard, or else the first; one name may have an ECDSA and an RSA certificate. Files that"
            " change are taken over within a minute.",
            least=2, most=2, repeatable=True, unset=()),
        Directive("TLSVersions", "tls_versions", "VERSION...", parse_versions, "TLSv1.2 TLSv1.3",
            "Versions of TLS to speak. The suites are those of Mozilla's intermediate configuration and cannot be"
            " chosen.", most=ANY),
        Directive("TLSClientCA", "tls_client_ca", "FILE", v.optional(v.parse_path), "off",
            "PEM file of authorities. Every client must have a certificate of one of them."),
        Directive("TLSTicketKey", "tls_ticket_key", "FILE", v.optional(v.parse_path), "off",
            "File of 80 random bytes. Servers that have the same one resume each other's sessions. Otherwise every"
            " start has its own key."),
        Directive("StrictTransportSecurity", "strict_transport_security_s", "SECONDS|off",
            v.optional(v.number(0, LONGEST_AGE_S)), "off",
            "How long browsers are to use https alone for this host (RFC 6797): a field of every answer over TLS,"
            " and of no other. 0 makes them forget it."),
    ),
    "What it serves": (
        Directive("DocumentRoot", "document_root", "PATH", v.parse_path, "",
            "Directory to serve. Required in a file unless DIR is given on the command line. It may be a"
            " symbolic link, which is resolved for each request."),
        Directive("Static", "static", "/PATH/ DIR", v.parse_static, "",
            "Directory whose files are served below the path, as those of DocumentRoot are but for the Fallback."
            " The longest prefix decides, among applications too. The path without its last slash leads there"
            " unless something else answers it.",
            least=2, most=2, repeatable=True, unset={}, flag="--static", joint="="),
        Directive("DirectoryIndex", "directory_index", "NAME...", v.parse_index, "index.html",
            "File names to try, in this order, for a directory.", most=ANY),
        Directive("ContentType", "content_types", ".EXT TYPE/SUBTYPE", v.parse_content_type, "",
            "Content type of an extension. Text without a charset is sent as UTF-8. Without any ContentType line"
            " a built-in table applies, which also knows names such as LICENSE; the first line replaces it"
            " entirely.",
            least=2, most=ANY, repeatable=True, unset=mediatypes.BUILT_IN),
        Directive("AddType", "added_types", ".EXT|GLOB TYPE/SUBTYPE", v.parse_added_type, "",
            "Content type added to the table, be it the built-in one or that of the ContentType lines: of an"
            " extension, or of files whose path below DocumentRoot matches. Patterns go before extensions, the"
            " first that matches before the others.",
            least=2, most=ANY, repeatable=True, unset={}),
        Directive("AddEncoding", "content_codings", ".EXT|GLOB CODING", v.parse_coding, "",
            "Content coding (`br`, `gzip`, `zstd`; `off` for none) in which files are stored, of an extension or"
            " of matching paths. They are sent as they are, with that Content-Encoding; the type of `game.wasm.br`"
            " is that of `game.wasm`. Otherwise only `.svgz` is known, as `gzip`.",
            least=2, most=2, repeatable=True, unset={}),
        Directive("DefaultType", "default_type", "TYPE/SUBTYPE", v.optional(v.parse_media_type), "",
            "Content type of files for which none is known; `off` answers 501. Where there is no line for it, it"
            " is `off` if there are ContentType lines, else `application/octet-stream`.", most=ANY),
        Directive("DirectoryListing", "directory_listing", "on|off", v.parse_switch, "off",
            "List a directory that has no index, in pages of 1,000 names; otherwise it is 404.",
            flag="--list", flag_value="on"),
        Directive("CleanUrls", "clean_urls", "on|off", v.parse_switch, "off",
            "Serve `/about` from `about.html`: see the table below."),
        Directive("Fallback", "fallback", "/PATH", v.optional(v.parse_url_path), "off",
            "Page to send with 200 where a page is missing, for single-page applications; see below. Without it,"
            " startup and `--check` warn.", flag="--spa", flag_value="/index.html"),
        Directive("ErrorPage", "error_pages", "STATUS /PATH", v.parse_error_page, "",
            "File to send as the body of an error from 400 to 599; it needs no password. If it is missing,"
            " startup and `--check` warn.",
            least=2, most=2, repeatable=True, unset={}),
        Directive("Redirect", "redirects", "FROM TO [STATUS]", parse_redirect, "",
            "Redirect a path to a path or URL, both percent-encoded. A FROM that ends in `*` matches every path"
            " with that prefix; a `*` at the end of TO inserts the rest of the path. An exact path wins over a"
            " prefix, a longer prefix over a shorter one. A query is kept unless TO has one. STATUS is 301, 302"
            " (the default, because browsers cache a 301 indefinitely), 303, 307 or 308.",
            least=2, most=3, repeatable=True, unset={}),
        Directive("BasicAuth", "basic_auth", "GLOB FILE", v.parse_basic_auth, "",
            "Require a password from the htpasswd file (bcrypt) wherever the pattern matches. The first match"
            " wins, for the path of the URL and again for that of the file. It holds for every spelling that"
            " the file system takes for the same file. Needs the package `bcrypt`.",
            least=2, most=2, repeatable=True, unset=()),
    ),
    "Applications": (
        Directive("Application", "applications", "/PATH MODULE:CALLABLE", v.parse_application, "",
            "WSGI application that answers the path and all below it; the longest prefix decides, and `/` is the"
            " whole site. `module:create_app()` calls a factory. The directory of the file is the first in which"
            " modules are looked for.",
            least=2, most=2, repeatable=True, unset={}, joint="="),
        Directive("FilesFirst", "files_first", "on|off", v.parse_switch, "off",
            "Whether a file of DocumentRoot, or a directory's index, answers a GET or HEAD before an application"
            " does; the application gets what is not there, and every other method."),
        Directive("ApplicationProcesses", "application_processes", "COUNT", v.parse_processes, "0",
            "Processes that run applications, so that one that computes, hangs or crashes holds up nothing else; 0"
            " runs them in the server's own process.", flag="--processes"),
        Directive("ApplicationThreads", "application_threads", "COUNT", v.number(1, 1024), "4",
            "Threads that run applications, in each process: as many requests are in progress at a time.",
            flag="--threads"),
        Directive("ApplicationQueue", "application_queue", "COUNT", v.number(0, 1_000_000), "1024",
            "Requests that wait for such a thread; one more is 503 with Retry-After."),
        Directive("ApplicationTimeout", "application_timeout_s", "SECONDS", v.seconds(0.001), "30",
            "Time until an answer begins, and between two parts of it. One that has not begun is 504, or 503 if no"
            " thread was free; one that has begun is cut off."),
        Directive("ApplicationRecycle", "application_recycle", "NAME=VALUE...", v.parse_recycle, "",
            "When a process that does well is replaced: after so many `requests` and up to `jitter` more, beyond"
            " so much `memory` (Linux), at an `age` in seconds. Its requests are finished, and none waits.",
            most=4, repeatable=True, unset={}),
        Directive("ApplicationReload", "application_reload", "on|off", v.parse_reload, "off",
            "For development: replace the processes when a file that they have imported changes, and show what"
            " cannot be imported in the browser. There is one process at least.",
            flag="--reload", flag_value="on"),
        Directive("Preload", "preload", "on|off", v.parse_switch, "off",
            "Whether modules of applications are imported once, before processes are forked, so that these share"
            " the memory. A thread that a module starts when it is imported is then in none of them."),
    ),
    "How it speaks": (
        Directive("RequestMethods", "request_methods", "METHOD...", v.chosen("GET", "HEAD", "POST", "OPTIONS"),
            "GET,HEAD,POST",
            "Methods to answer: GET, HEAD, POST and OPTIONS; every other one is 501. OPTIONS, if listed, is"
            " answered by 204 with Allow and the `Header` lines of the path, as a CORS preflight needs it. It"
            " always is for TrustedProxies that ask for themselves, as HAProxy's `option httpchk` does.",
            most=ANY),
        Directive("HTTPType", "http_types", "VERSION...", v.chosen("HTTP/1.0", "HTTP/1.1"),
            "HTTP/1.0,HTTP/1.1",
            "Protocol versions to answer; every other one is 400.", most=ANY),
        Directive("KeepaliveTime", "keepalive_time_s", "SECONDS", v.seconds(0.001), "15",
            "Time after which an idle connection is closed."),
        Directive("KeepaliveHeader", "keepalive_header", "on|off", v.parse_switch, "off",
            "Whether answers on connections that stay open say how long: `Keep-Alive: timeout=` with the whole"
            " seconds of KeepaliveTime, for clients that reuse none which is about to be closed."),
        Directive("ServerHeader", "server_header", "TEXT|off", v.parse_server, "fastws",
            "Value of the Server field; `off` sends none.", most=ANY),
        Directive("Header", "headers", '"NAME" "VALUE" [GLOB]', v.parse_header, "",
            "Response field to add wherever the pattern matches, or everywhere without a pattern.",
            least=2, most=3, repeatable=True, unset=()),
        Directive("CacheControl", "cache_control", "GLOB VALUE", v.parse_cache_control, "* no-cache",
            "Value of Cache-Control wherever the pattern matches. The first match wins; the default applies if"
            " none matches. Where `public`, `s-maxage` or `must-revalidate` would have caches give away what"
            " BasicAuth protects, startup and `--check` warn.", least=2, most=ANY, repeatable=True),
        Directive("Compression", "compression", "on|off", v.parse_switch, "on",
            "Content codings: sidecar files (`.br`, `.zst`, `.gz`) and compression in the background."),
    ),
    "Threads, memory and limits": (
        Directive("WorkerThreads", "worker_threads", "COUNT", v.number(0, 256), "0",
            "Threads that serve; 0 chooses by the processors that this process may use.", flag="--workers"),
        Directive("CacheSize", "cache_size_bytes", "SIZE", v.size(1024 * GIB), "64M",
            "Memory for finished responses; 0 sends every file from disk."),
        Directive("CacheMaxFile", "cache_max_file_bytes", "SIZE", v.size(GIB), "1M",
            "Largest file whose ETag is a hash of its content. Files up to 256K are also kept in memory; larger"
            " ones are sent by sendfile."),
        Directive("LargeFileETag", "large_file_etag", "state|times", v.choice("state", "times"), "state",
            "What the ETag of a file beyond CacheMaxFile stands for. `state`: device, inode, size and times. Every"
            " change makes another, and every machine has its own. `times`: size and time of modification. It is"
            " the same on all nodes that hold equal files of equal times, and it is for you to see to it that"
            " other content has another time or size."),
        Directive("CompressMaxFile", "compress_max_file_bytes", "SIZE", v.size(GIB), "4M",
            "Largest file that the server compresses, and the largest content that it unpacks where only a `.gz`"
            " is there. Sidecar files may have any size."),
        Directive("Sendfile", "sendfile", "on|off", v.parse_switch, "on",
            "Whether larger files are sent by sendfile(2). Where a file system has none they are read and sent in"
            " any case; `off` is for one on which it sends wrong bytes."),
        Directive("MaxConnections", "max_connections", "COUNT", v.number(1, 1_000_000), "20000",
            "Open connections; one more gets 503. `fastws` raises its limit of open files accordingly, and warns"
            " at startup if the system allows fewer."),
        Directive("MaxConnectionsPerAddress", "max_connections_per_address", "COUNT", v.number(0, 1_000_000),
            "0", "Open connections of one client address; 0 sets no limit, as clients may share an address."),
        Directive("MaxBodySize", "max_body_bytes", "SIZE [GLOB]", v.parse_body_size, "1M",
            "Largest request body wherever the pattern matches the path of the URL, or everywhere else without a"
            " pattern; a larger one is 413. The first match wins.", most=2, repeatable=True),
        Directive("RequestTimeout", "request_timeout_s", "SECONDS", v.seconds(0.001), "10",
            "Time for a request head to arrive completely; later is 408."),
        Directive("MinRate", "min_rate_bytes_s", "SIZE", v.size(GIB), "100",
            "Bytes a second that a client must send of its body or read of the response, on average; one that"
            " falls behind for longer than StallTime is dropped. 0 sets no limit."),
        Directive("StallTime", "stall_time_s", "SECONDS", v.seconds(0.001), "300",
            "Time for which a client that has kept MinRate so far may stand still: a player that has read ahead, a"
            " laptop asleep. One that has sent nothing of its body has a quarter of it."),
        Directive("DrainDelay", "drain_delay_s", "SECONDS", v.seconds(0), "0",
            "Time after the signal to stop for which new connections are accepted and answered all the same, while"
            " `readyz` is 503: load balancers learn of the end before clients do. DrainTimeout begins after it."),
        Directive("DrainTimeout", "drain_timeout_s", "SECONDS", v.seconds(0), "10",
            "Time for responses in flight to finish after the signal to stop."),
    ),
    "What it records": (
        Directive("AccessLog", "access_log", "FILE|-|off", v.parse_log, "log_webserver.txt",
            "A line a request; `-` is standard error. Without a file it lies in the user's state directory.",
            flag="--access-log"),
        Directive("AccessLogFormat", "access_log_format", "combined|combined_time|json",
            v.choice("combined", "combined_time", "json"), "combined",
            "NCSA combined, the same with the duration at its end, or a JSON object a line, which also has host,"
            " duration and what is known of TLS."),
        Directive("RequestID", "request_id", "off|log|answer", v.choice("off", "log", "answer"), "off",
            "Whether each request has a name: that of the field X-Request-ID from TrustedProxies, or else a new"
            " one. It ends the access line (in JSON as `request_id`, with `traceparent` and `tracestate`) and the"
            " lines of errors, and is given to applications; with `answer` it is sent back in X-Request-ID too."),
        Directive("ErrorLog", "error_log", "FILE|-|off", v.parse_log, "log_webserver_error.txt",
            "Start, stop, and the reasons for errors; `-` is standard error. Without a file it lies in the user's"
            " state directory.", flag="--error-log"),
        Directive("ErrorLogFormat", "error_log_format", "text|json", v.choice("text", "json"), "text",
            "Lines to read, or a JSON object a line."),
        Directive("LogLevel", "log_level", "LEVEL", v.choice("debug", "info", "warning", "error"), "info",
            "Lowest severity recorded in ErrorLog: debug, info, warning or error."),
        Directive("StatusPath", "status_path", "/PATH/", v.optional(v.parse_status_path), "off",
            "Folder of `healthz`, `readyz`, `metrics` and the live page, such as `/-/`."),
        Directive("StatusAllow", "status_allow", "ADDRESS...", v.parse_networks, "",
            "Addresses and networks that may see StatusPath besides this machine.",
            most=ANY, repeatable=True, unset=()),
    ),
}  # fmt: skip

DIRECTIVES: tuple[Directive, ...] = tuple(row for rows in GROUPS.values() for row in rows)
BY_NAME: Mapping[str, Directive] = {row.name.lower(): row for row in DIRECTIVES}

_INTRODUCTION = """\
# Configuration

`ws.conf` holds one directive per line: its name in any case, then its values. `#` begins a comment. A value
with spaces goes in double quotes, in which `\\"` is a quote and `\\\\` a backslash. The values of a list
are separated by commas or spaces. Paths are relative to the file. Sizes are in bytes; `K`, `M` and `G`
multiply by powers of 1024. A directive may appear once, or repeatedly if marked with *. Without
`--config` the server reads `./ws.conf`; if there is none, or if DIR is given, the defaults apply.
The last column names the field of `fastws.Config`, which `with_overrides` sets.

GLOB is a pattern in which `*` matches anything, `/` included; every other character stands for itself. It
is compared with two whole paths, percent-decoded and without the query; one match is enough:

- the path of the URL
- the path, below DocumentRoot, of the file that is sent, with a leading slash. It differs for a directory's
  index, a clean URL, the Fallback and an ErrorPage: with `CleanUrls on`, both `/about` and `/about.html`
  match the response to `/about`. Links are not resolved, and a compressed form of a file (`.gz`) counts as
  the file

A redirect has only the path of the URL. BasicAuth does not protect error pages.

`fastws --check` prints what is in force, or every error found: what it does not say, no start refuses, unless
another program has the port. Likely mistakes are reported in lines that begin with `fastws: warning:`. This page
is generated by `python -m fastws.config.directives`.
"""


_PATHS = """
## Clean URLs and the Fallback

What `CleanUrls on` does with `/blog`, by what is there. Each form leads to a page in one step at most, and no
redirect leads back. Elsewhere `/blog` is `blog.html` in the first two rows as well (GitHub Pages, Netlify,
Cloudflare Pages, `try_files {path} {path}.html` in Caddy); in the third, GitHub Pages and Cloudflare Pages send
`blog.html`. The superfluous slash is redirected as on Cloudflare Pages; GitHub Pages answers 404 there.

| there are | `/blog` | `/blog/` | `/blog.html` |
|---|---|---|---|
| `blog.html` | `blog.html` | 301 to `/blog` | `blog.html` |
| `blog.html`, `blog/` without an index | `blog.html` | 301 to `/blog`, or the listing | `blog.html` |
| `blog.html`, `blog/index.html` | 301 to `/blog/` | `blog/index.html` | `blog.html` |
| `blog/index.html` | 301 to `/blog/` | `blog/index.html` | 404 |
| `blog`, a file | `blog` | 301 to `/blog` if there is `blog.html` too, else 404 | `blog.html` if it is there |

The Fallback is for pages. A missing path with an extension, such as `/assets/app.js`, is 404 and `no-store`,
unless it is `.html`, `.htm`, `.xhtml`, another with an HTML type, or that of the Fallback itself; a number, as in
`/v1.2`, is no extension. Such an answer, and a redirect to or from a slash, is right only until a file appears: it
never has a lifetime of a day or more, nor `immutable`. Where CacheControl says so, `no-cache` is sent instead.
"""


_LISTENING = """
## Plain, TLS and redirect

```
Host            0.0.0.0,::
Listen          443 tls
Listen          80 redirect
Listen          unix:/run/fastws.sock 0660
TLSCertificate  /etc/letsencrypt/live/example.org/fullchain.pem /etc/letsencrypt/live/example.org/privkey.pem
```

`ListenPort 8080` and `Listen 8080` mean the same. A `redirect` address answers every request by 308 to the same
host, path and query at the first port that speaks TLS, as the server knows it: where a container or a firewall
maps ports, this one keeps its number. Only a host that one of the certificates is for is redirected: anybody can
write any name into a request, and the answer must not lead to a stranger's. Every other one is answered by 421.
Below `/.well-known/acme-challenge/` files are sent as they are elsewhere, so that an authority finds what proves
that the host is yours.

Wrong files are found by `--check` and at every start and reload: one that is missing or cannot be read, that is
not PEM, an expired certificate or one of the future, a key of another certificate, one with a password, and one
that every account of the machine may read.
"""


_PROXIES = """
## The PROXY protocol

```
Host            10.0.0.5
Listen          8080 proxy
Listen          8443 tls proxy
TrustedProxies  10.0.0.0/24
TLSCertificate  /etc/fastws/tls/fullchain.pem /etc/fastws/tls/privkey.pem
```

The preamble comes before TLS and before HTTP. The address that it names is the client's everywhere: in the logs,
for `MaxConnectionsPerAddress`, `StatusAllow`, the turns of passwords, and applications. A proxy that speaks for
itself, as in health checks, counts by its own address; a client that it cannot name is `unknown` in the logs,
and counts towards nothing. A preamble of version 1 has at most 107 bytes, one of version 2 at most 4,096,
additions (TLVs) included, which are skipped. It has to come within `RequestTimeout`. What is no preamble,
announces datagrams, or comes from others ends the connection; the error log says so, for each reason once in ten
seconds.
"""


def reference() -> str:
    """The table as Markdown."""
    parts = [_INTRODUCTION]
    for title, rows in GROUPS.items():
        parts.append(f"\n## {title}\n\n| directive | default | meaning | in Python |\n|---|---|---|---|\n")
        for row in rows:
            syntax = row.syntax.replace("|", "\\|")
            default = f"`{row.default}`" if row.default else "built-in table" if row.unset else "none"
            default = "see right" if row.name == "DefaultType" else default
            flag = f" Overridden by `{row.flag}`." if row.flag else ""
            mark = " *" if row.repeatable else ""
            parts.append(f"| `{row.name} {syntax}`{mark} | {default} | {row.help}{flag} | `{row.field}` |\n")
    return "".join([*parts, _LISTENING, _PROXIES, _PATHS])


if __name__ == "__main__":
    print(reference(), end="")
