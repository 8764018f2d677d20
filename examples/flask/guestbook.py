"""A guest book in memory: a form, a list, JSON, and an error page."""

from flask import Flask, abort, jsonify, redirect, render_template_string, request, url_for

PAGE = """<!DOCTYPE html><title>Guests</title>
<link rel="stylesheet" href="{{ url_for('static', filename='style.css') }}">
<form method="post"><input name="name"><button>Sign</button></form>
<ul>{% for name in guests %}<li>{{ name }}</li>{% endfor %}</ul>"""


def create_app():
    app = Flask(__name__)
    guests = []

    @app.get("/")
    def show():
        return render_template_string(PAGE, guests=guests)

    @app.post("/")
    def sign():
        guests.append(request.form["name"])
        return redirect(url_for("show"))

    @app.get("/guests.json")
    def as_json():
        return jsonify(guests)

    @app.get("/guests/<int:number>")
    def one(number):
        if number >= len(guests):
            abort(404)
        return guests[number]

    @app.post("/upload")
    def upload():
        return f"{len(request.files['file'].read())} bytes"

    return app
