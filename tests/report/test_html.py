import base64
import hashlib
import re
import xml.etree.ElementTree as ET

import pytest

from t2bench.report import html, units


@pytest.fixture(scope="module")
def page(synthetic, tmp_path_factory):
    return html.render(*synthetic.make(tmp_path_factory.mktemp("page")))


def digest(text):
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_policy_allows_exactly_our_script_and_style(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page).group(1)
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL).group(1)
        assert f"{tag}-src 'sha256-{digest(content)}'" in policy
        assert len(content) < 12_000


def test_nothing_is_loaded_from_anywhere(page):
    without_namespaces = page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "http://" not in without_namespaces
    assert "https://" not in without_namespaces
    assert not re.search(r"@import|url\((?!#)|<link|<img|<iframe|src=", without_namespaces)
    assert not re.search(r"\sstyle=", page)


def test_the_page_is_small_and_complete(page, synthetic):
    assert len(page.encode()) < 500_000
    for chapter in ("verdict", "speed", "memory", "scaling", "ladder", "cases", "health", "reproduce", "reading"):
        assert f'<section id="{chapter}"' in page
        assert f'href="#{chapter}"' in page
    for length in synthetic.LENGTHS:
        for name in ("vanilla", "flash", "chunked"):
            assert f"{synthetic.group(length)}/{name}</th>" in page


def test_a_run_of_two_hundred_cases_stays_small(synthetic, tmp_path):
    run, analysis = synthetic.repeated(*synthetic.make(tmp_path), 9)
    assert len(analysis.outcomes) > 200
    page = html.render(run, analysis)
    assert len(page.encode()) < 500_000
    assert f"{analysis.outcomes[-1].case}</th>" in page


def test_a_memory_wall_has_a_tile(page):
    assert "<b>L=8192</b><i>predicted</i><span>vanilla out of memory from here on</span>" in page


def test_one_length_is_drawn_as_rows_of_variants(synthetic, tmp_path):
    page = html.render(*synthetic.only(*synthetic.make(tmp_path), 4096))
    drawn = re.search(r"Speed-up at L=4096.*?</svg>", page, flags=re.DOTALL).group()
    assert {"flash", "chunked"} <= set(re.findall(r"<text[^>]*>\s*([^<]*?)\s*</text>", drawn))
    assert 'id="scaling"' not in page


def test_plots_are_described_and_themed(page):
    plots = re.findall(r"<svg xmlns.*?</svg>", page, flags=re.DOTALL)
    assert len(plots) == 6
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for plot in plots:
        root = ET.fromstring(plot)
        assert root.get("role") == "img"
        named = root.get("aria-labelledby").split()
        assert {element.get("id") for element in list(root)[:2]} == set(named)
        assert all(element.text for element in list(root)[:2])
        assert "#000000" not in plot
        assert root.get("fill") == "currentColor"
        assert not re.search(r"DejaVu|<metadata|<style|\d{4}-\d\d-\d\dT", plot)
        for target in re.findall(r'(?:href="|url\()#([^")]+)', plot):
            assert f'id="{target}"' in plot


def test_every_class_in_the_page_has_a_rule(page):
    style = re.search(r"<style>(.*?)</style>", page, flags=re.DOTALL).group(1)
    used = {name for value in re.findall(r'class="([^"]*)"', page) for name in value.split()}
    assert used - set(re.findall(r"\.([a-z][\w-]*)", style)) == {"sortable"}  # for the script


def test_colours_of_plots_are_defined_for_both_themes(page):
    light, _, dark = (
        re.search(r"<style>(.*?)</style>", page, flags=re.DOTALL).group(1).partition("@media screen and (prefers")
    )
    for colour in set(re.findall(r"var\((--\w+)\)", page)):
        assert f"{colour}: #" in light
        assert f"{colour}: #" in dark


def test_tables_are_accessible(page):
    heads = re.findall(r"<thead>.*?</thead>", page, flags=re.DOTALL)
    assert heads
    assert all('scope="col"' in head for head in heads)
    assert 'scope="row"' in page


def test_verdict_and_interval_are_on_the_page(page, run_and_analysis):
    _, analysis = run_and_analysis
    for effect in analysis.effects:
        assert units.times(units.speed_up(effect)) in page


def test_the_same_run_makes_the_same_page(synthetic, tmp_path, page):
    assert html.render(*synthetic.make(tmp_path)) == page


@pytest.mark.parametrize("options", [{"launches": 1}, {"measured": False}])
def test_poor_runs_have_pages_too(synthetic, tmp_path, options):
    page = html.render(*synthetic.make(tmp_path, **options))
    assert "oom (predicted)" in page
    assert ">None<" not in page
    assert "nan" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL).lower().split()
