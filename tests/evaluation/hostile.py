"""Text that would become markup, a formula or a broken file where it is not escaped."""

from html.parser import HTMLParser

TEXT = (
    "\"'><script>alert(1)</script><img src=x onerror=alert(1)></style>{{ 7 * 7 }} $\\frac{ | \udcff"
)


class Markup(HTMLParser):
    """The tags of a page, and the attributes that would run something."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.running: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                self.sources.append(value or "")
            if name.startswith("on") or (value or "").strip().lower().startswith("javascript:"):
                self.running.append(f"{tag} {name}={value}")


def assert_harmless(page: str, times: int) -> None:
    """The text is there as text, and as nothing else."""
    markup = Markup(page)
    assert "script" not in markup.tags
    assert not markup.running
    assert all(source.startswith("data:image/") for source in markup.sources)
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= times
    assert "{{ 7 * 7 }}" in page
    assert "default-src 'none'" in page
