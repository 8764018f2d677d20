"""The admin, a page that counts visits, pictures that visitors upload, an upload, a download and a stream."""

from django.contrib import admin
from django.core.files.storage import default_storage
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.template import RequestContext, Template
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from . import settings


def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(f"visit {request.session['visits']}")


UPLOAD = Template("""<!DOCTYPE html><title>Pictures</title>
<form method="post" enctype="multipart/form-data">{% csrf_token %}<input type="file" name="picture">
<button>Send</button></form>{% for picture in pictures %}<img src="{{ picture }}" alt="">{% endfor %}""")


def pictures(request):
    for file in request.FILES.values():
        default_storage.save(file.name, file)
    found = [default_storage.url(name) for name in default_storage.listdir("")[1] if name[0] != "."]
    return HttpResponse(UPLOAD.render(RequestContext(request, {"pictures": found})))


@csrf_exempt
def upload(request):
    return HttpResponse(f"{sum(file.size for file in request.FILES.values())} bytes")


def download(request):
    return FileResponse(open(settings.BASE_DIR / "manage.py", "rb"))


def stream(request):
    return StreamingHttpResponse(f"{n}\n" for n in range(1000))


urlpatterns = [
    path("admin/", admin.site.urls),
    path("visits/", visits),
    path("upload/", upload),
    path("pictures/", pictures),
    path("download/", download),
    path("stream/", stream),
]
