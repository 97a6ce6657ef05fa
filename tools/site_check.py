"""Check that the built documentation loads nothing from elsewhere: no fonts, scripts, styles or images.

Run as ``python tools/site_check.py SITE``. A link that a reader may follow is fine; what a browser fetches by
itself tells a third party who reads what.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

_LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
_LOADING_LINKS = {
    "stylesheet",
    "preload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "icon",
    "modulepreload",
    "manifest",
}
_ELSEWHERE = re.compile(r"^(?:https?:)?//")
_CSS = re.compile(r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')\s]+)")


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        loading_link = tag == "link" and _LOADING_LINKS & set(given.get("rel", "").split())
        url = given.get("href" if loading_link else _LOADING.get(tag, ""), "")
        if _ELSEWHERE.match(url):
            self.found.append(url)


def main(site: Path) -> int:
    """Print everything that a page of the site would load from elsewhere; return the exit status."""
    wrong: list[str] = []
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        parser = _Loads()
        parser.feed(page.read_text(encoding="utf-8"))
        wrong += [f"{page.relative_to(site)}: {url}" for url in parser.found]
    for style in sorted(site.rglob("*.css")):
        wrong += [f"{style.relative_to(site)}: {url}" for url in _CSS.findall(style.read_text(encoding="utf-8"))]
    print("\n".join(wrong) or f"{len(pages)} pages load nothing from elsewhere")
    return 1 if wrong or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
