"""What every script needs of the org besides the client: its control endpoint, and a way to it."""

import os
import requests
from requests.adapters import HTTPAdapter
from urllib.parse import urlsplit, urlunsplit

URL = os.environ["ORG_URL"]
CLIENT_ID = os.environ["ORG_CLIENT_ID"]
CLIENT_SECRET = os.environ["ORG_CLIENT_SECRET"]


class ToOrg(HTTPAdapter):
    """simple-salesforce speaks HTTPS to hosts of Salesforce that it makes up; the org listens without TLS."""

    def send(self, request, **kwargs):
        parts = urlsplit(request.url)
        own = parts.netloc == urlsplit(URL).netloc
        assert own or parts.hostname.endswith(".salesforce.com"), request.url
        request.headers["Host"] = parts.netloc
        request.url = URL + urlunsplit(("", "", parts.path, parts.query, ""))
        return super().send(request, **kwargs)


def session():
    """A session of requests whose calls arrive at the org."""
    session = requests.Session()
    session.mount("https://", ToOrg())
    return session


def control(method, path, body=None):
    """Something that only the org's own endpoint can do."""
    answer = requests.request(method, f"{URL}/control{path}", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(kind, call, code=None, status=None):
    """The call raises what the client makes of an error; its first entry has this code."""
    try:
        call()
    except kind as error:
        assert type(error) is kind, f"{type(error)} instead of {kind}"
        if status is not None:
            assert error.status == status, error.status
        if code is not None:
            assert error.content[0]["errorCode"] == code, error.content
        return error
    raise AssertionError(f"{kind.__name__} was expected")
