"""Hostile names and texts through every exporter."""

import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from rich.console import Console

from t2bench.report import html, markdown, safe, terminal

PAYLOADS = (
    "[/foo]", "[red]x", "[bold red]y[/]", "[link=https://evil.example]z[/link]", "\\[x]", "[@click=app.bell]b[/]",
    "\x1b[31mred", "\x1b]0;owned\x07", "\x1b]8;;https://evil.example\x1b\\l\x1b]8;;\x1b\\", "\x9b31mC1", "a\rb", "a\nb",
    "\x00nul", "\x7fdel", "\u202eevil", "\u2066iso\u2069", "a\u2028b", "zero\u200bwidth", "\ud800lone", "\ufffe\uffff",
    "<script>alert(1)</script>", "</script><script>alert(2)</script>", "<img src=x onerror=alert(3)>", "</title><h1>t",
    "</style><script>alert(4)</script>", '"><svg onload=alert(5)>', "' onmouseover='alert(6)", "javascript:alert(7)",
    "<!--", "-->", "]]>", "&lt;b&gt;", "&#60;script&#62;", "{{ 7*7 }}", "{% raw %}", "${7*7}",
    "<base href=//evil.example>",
    '<iframe src="https://evil.example">', "<meta http-equiv=refresh content=0>", "<a href=https://evil.example>a</a>",
    "a|b", "|---|", "`code`", "```", "# heading", "- item", "1. item", "> quote", "**bold**", "_em_", "~~s~~",
    "[a](https://evil.example)", "![i](https://evil.example/i.png)", "[r]: https://evil.example",
    "<https://evil.example>",
    "https://evil.example/x", "www.evil.example", "@someone", "$\\bad$", "a$b$c", "$$x$$", "_lead",
    "\\frac{", "%s %(x)s",
    "\u7b80\u4f53\u4e2d\u6587", "\U0001f600", "=1+1", "+rope", "-x", "@SUM(A1)", "../../etc",
    "x" * 400, "L^2<sup>", " ",
)  # fmt: skip
assert len(PAYLOADS) >= 50
# Three names a run, so that every payload is once a variant's name and once in the free texts.
BATCHES = [tuple(f"{PAYLOADS[(i + k) % len(PAYLOADS)]}~{k}" for k in range(3)) for i in range(0, len(PAYLOADS), 3)]


class Page(HTMLParser):
    """What a browser would make of a page: tags with their attributes, and the text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.words = {}, [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def plain_page(synthetic, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain")
    return Page(html.render(*hostile(synthetic, path, ("vanilla", "flash", "chunked"))))


def hostile(synthetic, tmp_path, batch):
    words = " ".join(batch)
    (tmp_path / "suite.yaml").write_text(f"name: {words}", encoding="utf-8", errors="replace")
    return synthetic.make(tmp_path, names=batch, words=words, suite=batch[0])


@pytest.mark.parametrize("batch", BATCHES[::4], ids=lambda batch: ascii(batch[0])[:20])
def test_html_holds_exactly_our_own_elements(synthetic, tmp_path, batch, plain_page):
    page = Page(html.render(*hostile(synthetic, tmp_path, batch)))
    for tag in ("script", "style", "title", "h1", "h2", "nav", "svg", "figure", "table", "meta", "pre", "html", "body"):
        assert page.tags[tag] == plain_page.tags[tag], tag
    assert page.tags.keys() <= plain_page.tags.keys() | {"sup"}
    for tag, key, value in page.attributes:
        assert not key.startswith("on"), (tag, key)
        assert key != "style"
        if key in ("href", "src"):
            assert value.startswith("#")


def test_every_payload_is_inert_in_html_text(synthetic, tmp_path):
    """One page with every payload in its warnings, reasons and environment."""
    run, analysis = synthetic.make(tmp_path, words=" ".join(PAYLOADS))
    text = html.render(run, analysis)
    assert text.count("<script>") == 1
    assert text.count("<style>") == 1
    for forbidden in ("<img", "<iframe", "<base", "onerror=alert(3)>", "<h1>t", "\x1b", "\x00", "\u202e"):
        assert forbidden not in text


@pytest.mark.parametrize("payload", PAYLOADS, ids=ascii)
def test_every_payload_is_inert_in_markdown(payload):
    text = safe.markdown(payload)
    assert not re.search(r"(?<!\\)[|`*\[]", text)
    assert not re.search(r"<|(?<!\\)\$|://|^[-+=#>] |(?<!\S)@|www\.", text)
    assert not any(ord(char) < 32 or char in "\u202e\u2066\u2028\x7f\x9b" for char in text)


def test_markdown_tables_keep_their_columns(synthetic, tmp_path):
    for batch in BATCHES:
        run, analysis = hostile(synthetic, tmp_path, batch)
        text = markdown.render(run, analysis)
        for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(widths) == 1, block
        assert text.count("```") == 2
        assert len(text.encode("utf-8", "replace")) < markdown.LIMIT_BYTES


def test_the_terminal_shows_names_as_they_are(synthetic, tmp_path):
    for batch in BATCHES:
        run, analysis = hostile(synthetic, tmp_path, batch)
        file = io.StringIO()
        terminal.show(run, analysis, Console(file=file, width=100))
        text = file.getvalue()
        assert not any((ord(char) < 32 and char != "\n") or char in "\x7f\x9b\u202e\u2066\u2028" for char in text)
        for name in batch:
            assert safe.clean(name)[:20].strip() in text


@pytest.mark.parametrize("payload", PAYLOADS, ids=ascii)
def test_labels_are_drawn_as_text(payload):
    from t2bench.report import canvas

    with canvas.settings():
        drawing = canvas.figure(2, 1)
        drawing.text(0, 0, safe.label(payload))
        plot = canvas.finish(drawing, name="n", title=payload, caption=payload)
    root = ET.fromstring(plot.svg)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {"svg", "title", "desc", "g", "text", "defs"}
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert (texts or [""])[0].strip() == safe.label(payload).strip()
