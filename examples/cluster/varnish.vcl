vcl 4.1;

# Varnish (6 or later) as a cache in front of HAProxy: varnishd -C -f varnish.vcl checks this file.
# What has aged is asked for with If-None-Match, and any node answers 304.
backend default {
    .host = "127.0.0.1";
    .port = "8081";
    .proxy_header = 2;
}

sub vcl_backend_response {
    # no-cache, which fastws sends unless CacheControl says otherwise, means: keep it, and ask each time. Varnish
    # itself would keep nothing; here it asks once a second for all clients. Lifetimes of CacheControl hold as they are.
    if (beresp.status == 200 && beresp.http.ETag && beresp.http.Cache-Control == "no-cache" && !beresp.http.Set-Cookie) {
        set beresp.ttl = 1s;
        set beresp.grace = 0s;
        set beresp.keep = 1h;
        return (deliver);
    }
}
