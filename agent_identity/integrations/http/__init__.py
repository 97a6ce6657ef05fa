"""HTTP clients and servers (httpx, requests, ASGI, WSGI) that carry a task between services."""
