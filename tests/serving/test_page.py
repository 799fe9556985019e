"""The page in a real browser: Chromium, from the system's packages, asks a server of its own."""

import csv
import os
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.exports import make_trained
from tests.serving.processes import serving
from zoo.export import export

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
TEXT = "The film was good, never dull!"

pytestmark = [
    pytest.mark.slow,
    # In CI it is installed, or an install step is missing.
    pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="no Chromium here"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("saved_models")
    return [
        export(make_trained(family, size=size), family, root).parent
        for family, size in (("lstm_attention", "small"), ("transformer", "small,num_layers=2"))
    ]


@pytest.fixture(scope="module")
def server(folders):
    with serving(*folders) as running:
        for folder in folders:
            running.until(f"{folder.name} 1 is served")
        yield running


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, server):
    """The page, ready to be asked; it must ask no one else and complain of nothing."""
    with opened(browser, server.url) as page:
        expect(page.get_by_label("Model")).to_have_value("lstm_attention/1")
        yield page


class opened:
    """A page that is closed in the end, and had no errors until then."""

    def __init__(self, browser, url, **options):
        self._url = url
        self._page = browser.new_page(**{"viewport": {"width": 1000, "height": 800}} | options)
        self.errors, self.asked = [], set()
        self._page.on("pageerror", lambda error: self.errors.append(str(error)))
        self._page.on("request", lambda request: self.asked.add(request.url))
        self._page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)

    def __enter__(self):
        self._page.goto(self._url)
        return self._page

    def __exit__(self, kind, *_):
        self._page.close()
        if kind is None:
            assert self.errors == []
            assert all(url.startswith((self._url, "data:", "blob:")) for url in self.asked)


def ask(page, text=TEXT):
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer")).not_to_have_count(0)
    expect(page.locator("#answers")).not_to_have_attribute("aria-busy", "true")


def test_two_models_say_what_they_think_of_one_text_and_why(page):
    page.get_by_label("Compare with").select_option("transformer/1")
    ask(page)
    answers = page.locator(".answer")
    expect(answers).to_have_count(2)
    for place in range(2):
        answer = answers.nth(place)
        shares = answer.locator(".share").all_text_contents()
        assert sum(float(share.split()[0]) for share in shares) == pytest.approx(100, abs=0.11)
        tokens = answer.locator(".tokens li")
        expect(tokens).to_have_text(["the", "film", "was", "good", ",", "never", "dull", "!"])
        shades = {tokens.nth(i).get_attribute("style") for i in range(8)}
        assert len(shades) > 1
        heads = answer.get_by_role("img", name="Attention")
        expect(heads).to_have_count(4)
    expect(answers.nth(0).get_by_role("img", name="Gates of")).to_have_count(2)
    expect(answers.nth(1).get_by_role("img", name="Gates of")).to_have_count(0)
    for name in ("lstm_attention", "transformer"):
        expect(page.get_by_role("status").first).to_contain_text(f"{name}: ")


def test_maps_of_one_block_are_shown_and_those_of_others_on_demand(page):
    page.get_by_label("Model").select_option("transformer/1")
    ask(page)
    heads = page.locator(".answer").get_by_role("img", name="Attention")
    expect(heads).to_have_count(4)
    other = page.get_by_text("block 1, 4 heads")
    other.focus()
    other.press("Enter")
    expect(heads).to_have_count(8)


def test_maps_are_read_by_keyboard_and_mouse(page):
    ask(page)
    head = page.get_by_role("img", name="Attention of attention, head 2")
    reading = page.locator(".answer .reading").last
    head.focus()
    expect(reading).to_contain_text("head 2: the takes ")
    expect(reading).to_contain_text("from the")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowUp"):
        head.press(key)
    expect(reading).to_contain_text("head 2: the takes ")
    expect(reading).to_contain_text("from was")
    box = head.bounding_box()
    head.hover(position={"x": box["width"] - 2, "y": box["height"] - 2})
    expect(reading).to_contain_text("head 2: ! takes ")
    assert head.get_attribute("title") == reading.text_content()
    gates = page.get_by_role("img", name="Gates of bilstm 0 forward")
    gates.focus()
    expect(page.locator(".answer .reading").first).to_contain_text("the: forget gate 0.")


def test_it_is_asked_without_a_mouse(page):
    page.keyboard.press("Tab")
    expect(page.get_by_label("Text", exact=True)).to_be_focused()
    page.keyboard.type("never again")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".tokens li")).to_have_text(["never", "again"])


def test_an_example_is_taken_and_an_empty_text_is_one(page):
    page.get_by_role("button", name="Not bad at all!").click()
    expect(page.locator(".tokens li").first).to_be_visible()
    expect(page.get_by_label("Text", exact=True)).to_have_value("Not bad at all!")
    ask(page, "")
    expect(page.locator(".tokens li")).to_have_text(["[empty]"])


def test_what_is_typed_is_text_and_no_markup(page):
    ask(page, "<img src=x onerror=alert(1)> the film")
    expect(page.locator(".tokens img")).to_have_count(0)
    expect(page.locator(".tokens")).to_contain_text("img")


def test_a_file_of_lines_becomes_a_table_to_download(page, tmp_path):
    lines = [f"film {i} was good" for i in range(70)] + ['=1+1 "quoted", never']
    (tmp_path / "lines.txt").write_text("\n\n".join(lines), "utf-8")
    page.get_by_label("File").set_input_files(tmp_path / "lines.txt")
    link = page.get_by_role("link", name="Download the table")
    expect(link).to_be_visible()
    expect(page.locator("#progress-text")).to_have_text("71 of 71 lines answered")
    expect(page.locator("#table tbody tr")).to_have_count(71)
    with page.expect_download() as download:
        link.click()
    with open(download.value.path(), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["text", "label", "negative", "positive"]
    assert [row["text"] for row in rows[:70]] == lines[:70]
    assert rows[70]["text"] == "'" + lines[70]  # no formula for who opens it in a spreadsheet
    for row in rows:
        assert float(row["negative"]) + float(row["positive"]) == pytest.approx(1, abs=1e-3)
        assert float(row[row["label"]]) >= 0.5


@pytest.mark.parametrize("width", [360, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_on_a_phone_or_a_wide_screen(browser, server, width, scheme):
    size = {"width": width, "height": 740}
    with opened(browser, server.url, viewport=size, color_scheme=scheme) as page:
        page.get_by_label("Compare with").select_option("transformer/1")
        ask(page, "a film of " + "very" * 40 + " long words, " * 12)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        back, ink = page.evaluate(
            "() => { const s = getComputedStyle(document.body);"
            " return [s.backgroundColor, s.color] }"
        )
        assert (back == "rgb(255, 255, 255)") == (scheme == "light")
        assert ink != back


def test_where_a_token_is_wanted_the_page_asks_for_it(browser, folders, tmp_path):
    (tmp_path / "token").write_text("s3cret")
    with serving(folders[0], f"--token_file={tmp_path / 'token'}") as running:
        running.until("lstm_attention 1 is served")
        with opened(browser, running.url) as page:
            token = page.get_by_label("Token")
            expect(token).to_be_focused()
            token.fill("s3cret")
            token.press("Enter")
            expect(page.get_by_label("Model")).to_have_value("lstm_attention/1")
            ask(page)
            expect(page.locator(".tokens li")).to_have_count(8)
        assert running.end() == 0


def test_a_server_that_is_gone_is_a_line(browser, folders):
    with serving(folders[0]) as running:
        running.until("lstm_attention 1 is served")
        with opened(browser, running.url) as page:
            expect(page.get_by_label("Model")).to_have_value("lstm_attention/1")
            running.end()
            page.get_by_role("button", name="Ask").click()
            expect(page.get_by_role("status").first).to_have_text("The server does not answer.")


def test_without_an_explanation_the_answer_stands(page):
    refused = {"error": "the answer has more than 7 elements: ask for fewer rows"}
    page.route("**/*:predict", lambda route: route.fulfill(status=400, json=refused))
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer .note")).to_contain_text("No explanation: the answer has more")
    expect(page.locator(".answer .share")).to_have_count(2)
