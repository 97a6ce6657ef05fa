"""An OpenID provider on this machine: django-oauth-toolkit as anybody would run it, with a login form and one user.

Run as ``python openid_provider.py FOLDER PORT``. The folder holds the database and ``key.pem``, with which tokens are
signed; keys of older tokens may stand beside it as ``old-*.pem``. When it serves, it prints the address.
"""

import os
import sys
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

USER, PASSWORD = "alice", "correct horse battery staple"
CLIENT, CLIENT_SECRET = "invoice-desk", "a secret long enough to be a key of HMAC"
SHARED = "desk-of-shared-secrets"
RETURN = "http://127.0.0.1:1/back"
_FORM = '<form method="post">{% csrf_token %}{{ form }}<input type="hidden" name="next" value="{{ next }}"></form>'


class Quiet(WSGIRequestHandler):
    """Serves without a line for each request."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def configure(folder: Path, port: int) -> None:
    """Set Django up: sessions, users, the OAuth and OpenID endpoints, and nothing else."""
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "provider.sqlite"}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF="openid_provider_urls",
        SECRET_KEY="only for this test",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {
                    "context_processors": ["django.template.context_processors.request"],
                    "loaders": [("django.template.loaders.locmem.Loader", {"registration/login.html": _FORM})],
                },
            }
        ],
        USE_TZ=True,
        LOGIN_URL="/login/",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_ISS_ENDPOINT": f"http://127.0.0.1:{port}/o",
            "OIDC_RSA_PRIVATE_KEY": (folder / "key.pem").read_text(encoding="ascii"),
            "OIDC_RSA_PRIVATE_KEYS_INACTIVE": [
                path.read_text(encoding="ascii") for path in sorted(folder.glob("old-*.pem"))
            ],
            "OAUTH2_VALIDATOR_CLASS": "openid_provider_urls.Validator",
            "SCOPES": {"openid": "Who you are"},
            "PKCE_REQUIRED": True,
        },
    )


def publish_urls() -> None:
    """Make the module of addresses that Django asks for; it can be imported only after Django is set up."""
    from types import ModuleType

    from django.contrib.auth.views import LoginView
    from django.urls import include, path
    from oauth2_provider.oauth2_validators import OAuth2Validator

    class Validator(OAuth2Validator):
        oidc_claim_scope = None

        def get_additional_claims(self, request: object) -> dict[str, object]:
            """Tell the roles of the user."""
            return {"realm_access": {"roles": ["payer"]}}

    module = ModuleType("openid_provider_urls")
    module.urlpatterns = [  # type: ignore[attr-defined]
        path("login/", LoginView.as_view()),
        path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    ]
    module.Validator = Validator  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module


def fill() -> None:
    """Make the tables, the user and two clients: one gets tokens under RS256, one under HS256."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from oauth2_provider.models import Application

    call_command("migrate", verbosity=0)
    if not User.objects.exists():
        User.objects.create_user(USER, password=PASSWORD)
        for name, algorithm in ((CLIENT, "RS256"), (SHARED, "HS256")):
            Application.objects.create(
                client_id=name,
                client_secret=CLIENT_SECRET,
                hash_client_secret=algorithm == "RS256",  # HMAC needs it in clear.
                client_type="confidential",
                authorization_grant_type="authorization-code",
                redirect_uris=RETURN,
                algorithm=algorithm,
                skip_authorization=True,
            )


def main(folder: Path, port: int) -> None:
    """Serve until somebody ends the process."""
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # Loopback.
    configure(folder, port)
    import django

    django.setup()
    publish_urls()
    fill()
    from django.core.wsgi import get_wsgi_application

    with make_server("127.0.0.1", port, get_wsgi_application(), handler_class=Quiet) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201
        server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
