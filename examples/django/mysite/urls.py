"""The admin, a page that counts visits, an upload, and a download."""

from django.contrib import admin
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from . import settings


def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(f"visit {request.session['visits']}")


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
    path("download/", download),
    path("stream/", stream),
]
