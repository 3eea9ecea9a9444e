"""The page of a served model, in a browser: what is shown, kept and sent."""

import base64
import shutil
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from image_files import COLOURS, save_image
from served import CLASSES, colour_model, in_thread, picture, served

import transferkit
from transferkit.options.serve import ServeOptions
from transferkit.recipes.predicting.answer import Answer
from transferkit.recipes.serve import serve
from transferkit.serving.access import Access

MALICIOUS = "<img src=x onerror=alert(1)>.png"

LIMITS = {"bytes": 100_000, "images": 4, "seconds": 20}

ABOUT = {
    "name": "colours",
    "version": "1.2.3",
    "backbone": "shares",
    "classes": list(CLASSES),
    "metrics": None,
    "collects": False,
    "limits": LIMITS,
}


def colours(**known):
    """Return the made-up model, with all that the page asks for."""
    return colour_model(**known, about={**ABOUT, "explains": "explain" in known})


class Page:
    """The page in a browser, and what a user does there."""

    def __init__(self, browser, port, width=1280, scheme="light", **how):
        self.messages, self.requested = [], []
        self.address = f"http://127.0.0.1:{port}"
        self.view = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme, **how
        )
        self.view.on("console", lambda message: self.messages.append(message.text))
        self.view.on("pageerror", lambda error: self.messages.append(str(error)))
        self.view.on("request", lambda request: self.requested.append(request.url))
        self.view.goto(self.address)

    def give(self, files, event="drop"):
        """Drop or paste named files."""
        encoded = [[name, base64.b64encode(data).decode()] for name, data in files]
        self.view.locator("#drop").wait_for()
        self.view.evaluate(
            """([event, files]) => {
                const given = new DataTransfer();
                for (const [name, data] of files) {
                    const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
                    given.items.add(new File([bytes], name));
                }
                document.querySelector("#drop").dispatchEvent(event === "drop"
                    ? new DragEvent("drop", {dataTransfer: given, bubbles: true, cancelable: true})
                    : new ClipboardEvent("paste", {clipboardData: given, bubbles: true}));
            }""",
            [event, encoded],
        )

    def wait_for_status(self, text):
        """Wait until the status line is this text."""
        self.view.locator("#status", has_text=text).wait_for()
        assert self.view.locator("#status").text_content() == text

    def card(self, name):
        """Return the card of an image."""
        return self.view.get_by_role("article", name=name, exact=True)

    def rows(self, name):
        """Return the lines of the table of an image."""
        return self.card(name).locator("tbody tr").all_inner_texts()


@contextmanager
def opened(browser, port, **how):
    """Open the page until the end of the block."""
    page = Page(browser, port, **how)
    try:
        yield page
    finally:
        page.view.close()


def image_bytes(folder, name, seed=0):
    save_image(folder / "one.png", COLOURS[name], seed=seed)
    return (folder / "one.png").read_bytes()


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
)
def test_page__shows_labels_reasons_and_evidence_and_keeps_marks(
    browser, run_folder, tmp_path, width, scheme
):
    run = shutil.copytree(run_folder, tmp_path / "run")
    (run / "report.html").write_text("<title>the report</title>")
    options = ServeOptions(str(run), port=0, collect=tmp_path / "marked", sets=0.5, engine="torch")
    blue, red = (image_bytes(tmp_path, name) for name in ("blue", "red"))

    with (
        serve(options) as made,
        in_thread(made.run, made.server.stop),
        opened(browser, made.socket.getsockname()[1], width=width, scheme=scheme) as page,
    ):
        page.give([("blue.png", blue), (MALICIOUS, b"broken"), ("red.png", red)])
        page.wait_for_status("2 images answered, 1 without an answer")

        assert page.card(MALICIOUS).locator(".problem").text_content() == (
            "No answer: not an image in a known format."
        )
        assert page.card("blue.png").locator(".label").text_content() == "blue"
        assert page.rows("red.png")[0].startswith("red\t")
        page.card("red.png").get_by_role("button", name="Show the evidence").click()
        page.card("red.png").get_by_alt_text("Evidence for red").wait_for()
        for name, right in (("red.png", "blue"), ("blue.png", "green")):
            mark(page, name, right)
        look_at(page)
        with page.view.expect_navigation():
            page.view.get_by_role("link", name="Report of the run").click()
        assert page.view.title() == "the report"

    kept = {p.parent.name: p.read_bytes() for p in (tmp_path / "marked").glob("*/*")}
    assert kept == {"blue": red, "green": blue}
    assert page.messages == []
    assert {url for url in page.requested if not url.startswith((page.address, "data:"))} <= {
        url for url in page.requested if url.startswith(f"blob:{page.address}")
    }


def mark(page, name, right):
    """Mark the right class of an image, after a class that the model does not have."""
    card = page.card(name)
    card.get_by_text("Wrong? Mark the right class").click()
    label = card.get_by_label("Right class")
    for text, told in (("", "Which class?"), ("pink", "No class is called pink.")):
        label.fill(text)
        card.get_by_role("button", name="Keep").click()
        assert card.locator(".marked").text_content() == told
        assert label.get_attribute("aria-invalid") == "true"
    label.fill(right)
    label.press("Enter")
    card.get_by_text(f"Kept as {right}.").wait_for()


def look_at(page):
    """Check what makes a page hard to use: sideways scrolling, and what axe finds."""
    assert page.view.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    found = Axe().run(page.view).response["violations"]
    assert [one["id"] for one in found] == []


def test_marked_images__are_what_the_next_run_learns(browser, run_folder, tmp_path):
    options = ServeOptions(str(run_folder), port=0, collect=tmp_path / "marked", engine="torch")
    files = [
        (f"{name}-{seed}.png", image_bytes(tmp_path, name, seed), name)
        for name in ("red", "blue")
        for seed in range(4)
    ]

    with (
        serve(options) as made,
        in_thread(made.run, made.server.stop),
        opened(browser, made.socket.getsockname()[1]) as page,
    ):
        page.give([file[:2] for file in files])
        page.wait_for_status("8 images answered")
        for name, _, right in files:
            mark(page, name, right)
    run = transferkit.finetune(
        tmp_path / "marked", tmp_path / "run", backbone="test_resnet", weights="none",
        image_size=32, epochs=1,
    )  # fmt: skip

    assert {name: sum(counts) for name, counts in run.plan.classes.items()} == {"blue": 4, "red": 4}


def test_page__sends_many_images_in_groups_and_forgets_them(browser):
    with served(colours()) as client, opened(browser, client.port) as page:
        page.give([(f"{i}.png", picture("blue")) for i in range(11)])
        page.wait_for_status("11 images answered")
        page.give([("12.png", picture("red"))], event="paste")
        page.wait_for_status("1 image answered")
        assert page.view.get_by_role("article").count() == 12
        first = page.view.get_by_role("article").first
        assert first.locator(".name").text_content() == "12.png"
        page.view.get_by_role("button", name="Remove all").click()

        assert page.view.get_by_role("article").count() == 0
        assert page.view.locator("#status").text_content() == ""
    sent = [url for url in page.requested if url.endswith("/predict")]
    assert len(sent) == 4  # groups of four, four, three; and the last one
    assert page.messages == []


def test_page__says_what_is_unsure_and_unusual(browser):
    record_of = Answer(CLASSES, 3, 0.99, 0.2, 0.5).prediction
    model = colours(record_of=lambda name, values, _: record_of(name, values, 0.7))

    with served(model) as client, opened(browser, client.port) as page:
        page.give([("a.png", picture("red"))])
        page.wait_for_status("1 image answered")
        card = page.card("a.png")

        assert card.locator(".label").text_content() == "Unsure"
        assert "The best guess is red, with a confidence of" in card.inner_text()
        assert "Unlike the images that the model was validated on." in card.inner_text()
        assert "Set of labels: red." in card.inner_text()
        assert not card.get_by_role("button", name="Show the evidence").is_visible()
        assert not card.get_by_text("Wrong?").is_visible()
        look_at(page)


def test_page__says_why_an_image_was_not_answered(browser):
    with served(colours()) as client, opened(browser, client.port) as page:
        page.give([("large.png", bytes(100_000)), ("small.png", picture("red"))])
        page.wait_for_status("1 image answered, 1 without an answer")
        assert "it is larger than the 0.1 MB of a request" in page.card("large.png").inner_text()
        page.view.route("**/predict", lambda route: route.abort())
        page.give([("lost.png", picture("red"))])
        page.wait_for_status("0 images answered, 1 without an answer")

        assert "the server cannot be reached" in page.card("lost.png").inner_text()


def test_page__asks_again_when_the_server_has_no_room(browser):
    asked = []

    def answer(route):
        asked.append(route)
        if len(asked) > 1:
            route.continue_()
        else:
            route.fulfill(status=503, json={"error": "later"}, headers={"Retry-After": "1"})

    with served(colours()) as client, opened(browser, client.port) as page:
        page.view.route("**/predict", answer)
        page.give([("a.png", picture("red"))])
        page.wait_for_status("1 image answered")

    assert len(asked) == 2


def test_page__asks_for_the_token_and_keeps_it_for_the_tab(browser, tmp_path):
    (tmp_path / "report.html").write_text("<title>the report</title>")
    access = Access(is_local=True, token="secret")
    model = colours(report=tmp_path / "report.html")

    with served(model, access=access) as client, opened(browser, client.port) as page:
        token = page.view.get_by_label("Token")
        token.wait_for()
        assert not page.view.locator("#use").is_visible()
        look_at(page)
        token.fill("wrong")
        token.press("Enter")
        page.view.get_by_text("This is not the token.").wait_for()
        token.fill("secret")
        page.view.get_by_role("button", name="Go on").click()
        page.give([("a.png", picture("red"))])
        page.wait_for_status("1 image answered")
        page.view.reload()
        page.give([("a.png", picture("red"))])
        page.wait_for_status("1 image answered")
        page.view.get_by_role("link", name="Report of the run").click()
        page.view.wait_for_url("**/report?key=*")
        assert page.view.title() == "the report"
        assert "secret" not in page.view.url


def test_page__is_used_with_the_keyboard(browser, tmp_path):
    model = colours(explain=lambda: lambda data, label: picture("blue", kind="jpeg"))

    with served(model) as client, opened(browser, client.port) as page:
        page.give([("a.png", picture("red"))])
        page.wait_for_status("1 image answered")
        keys, focused = page.view.keyboard, []
        for _ in range(3):
            keys.press("Tab")
            focused.append(page.view.evaluate("document.activeElement.id || "
                                              "document.activeElement.textContent"))  # fmt: skip
        keys.press("Enter")
        page.card("a.png").get_by_alt_text("Evidence for red").wait_for()
        assert page.view.evaluate("document.activeElement.textContent") == "Hide the evidence"
        keys.press("Enter")
        page.card("a.png").get_by_alt_text("Evidence for red").wait_for(state="detached")

    assert focused == ["files", "clear", "Show the evidence"]


def test_page__takes_photographs_on_a_phone(browser):
    with (
        served(colours()) as client,
        opened(browser, client.port, width=390, is_mobile=True, has_touch=True) as page,
    ):
        page.view.locator("#drop").wait_for()
        camera = page.view.locator("#camera")
        assert page.view.get_by_text("Take a photograph").is_visible()
        assert camera.get_attribute("capture") == "environment"
        camera.set_input_files([{"name": "now.png", "mimeType": "", "buffer": picture("green")}])
        page.wait_for_status("1 image answered")
        assert page.card("now.png").locator(".label").text_content() == "green"
