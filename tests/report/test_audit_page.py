"""The page of an audit, from made-up findings: its content, its size, and operated in a browser."""

import csv
import json
import re
from dataclasses import replace
from io import StringIO

import pytest
from axe_playwright_python.sync_playwright import Axe

from transferkit.data.decisions import Action, Decision
from transferkit.report.audit_page import AuditReport, audit_page, images_to_show
from transferkit.report.page import write_page
from transferkit.tables.audit_findings import Finding, Kind

SCRIPT = "<script>alert(1)</script>"
NAMES = ("ants", "bees", SCRIPT)
DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwAD"
    "hgGAWjR9awAAAABJRU5ErkJggg=="
)

QUOTED = 'ants/a "b", c.jpg'
FINDINGS = (
    Finding(Kind.UNREADABLE, "ants/broken.jpg", 1.0, "truncated"),
    Finding(Kind.COPY, "ants/1.jpg", 0.5, "exact copy of ants/2.jpg", group=1),
    Finding(Kind.COPY, "ants/2.jpg", 0.5, "exact copy of ants/1.jpg", group=1),
    Finding(Kind.LABEL, "ants/1.jpg", 0.9, "looks like bees", suggested_label="bees"),
    Finding(Kind.LABEL, QUOTED, 0.8, "looks like bees", suggested_label="bees"),
    *(Finding(Kind.DARK, f"bees/{i}.jpg", 1.0, "dark: below 3") for i in range(20)),
    Finding(Kind.CONFUSED, "", 0.2, "ants and bees: 12 images", classes=("ants", "bees")),
    Finding(Kind.SHORTCUT, "", 0.9, f"{SCRIPT}: told by size"),
)
LABELS = {
    **{path: "ants" for path in ("ants/1.jpg", "ants/2.jpg", QUOTED, "ants/typical.jpg")},
    **{f"bees/{i}.jpg": "bees" for i in range(20)},
    "bees/typical.jpg": "bees",
}
TYPICAL = {"ants": ("ants/typical.jpg",), "bees": ("bees/typical.jpg",), SCRIPT: ()}


def made_up(**changes) -> AuditReport:
    report = AuditReport(
        data=SCRIPT,
        dataset_words=SCRIPT,
        digest="ab" * 32,
        backbone="resnet18",
        images=1234,
        class_names=NAMES,
        findings=FINDINGS,
        rules={kind: f"rule of {kind}" for kind in Kind},
        labels=LABELS,
        sha256={path: f"{i:064x}" for i, path in enumerate(LABELS)},
        typical=TYPICAL,
        thumbnails=dict.fromkeys(LABELS, DOT),
    )
    return replace(report, **changes)


def test_images_to_show__are_the_clearest_of_each_kind_with_what_they_are_compared_with():
    wanted = images_to_show(FINDINGS, LABELS, TYPICAL)

    assert wanted[:4] == ["ants/1.jpg", "ants/typical.jpg", "bees/typical.jpg", "bees/0.jpg"]
    assert wanted[4:6] == ["ants/2.jpg", QUOTED]
    assert len(wanted) == len(set(wanted)) == len(LABELS)


def test_audit_page__shows_malicious_names_as_text():
    page = audit_page(made_up())

    assert SCRIPT not in page
    assert page.count("<script") == 2
    assert "&lt;script&gt;alert(1)&lt;/script&gt;: told by size" in page


def test_audit_page__allows_its_own_script_alone():
    page = audit_page(made_up())
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="(.*?)"', page)

    assert "default-src 'none'" in policy
    assert re.search(r"script-src (.*)", policy)[1].count("sha256-") == 1
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    assert not re.findall(
        r"url\((?!#)|@import|<link(?! rel=\"icon\")|<iframe|fetch\(|https?:", page
    )


def test_audit_page__lists_every_kind_with_its_rule():
    page = audit_page(made_up())

    assert all(f"rule of {kind}" in page for kind in Kind)
    assert "8 more" in page


def test_audit_page__of_nothing_says_so_and_runs_no_script():
    page = audit_page(made_up(findings=()))

    assert "No image is named." in page
    assert "<script" not in page


def test_audit_page__of_too_many_findings_shows_the_clearest():
    many = [Finding(Kind.DARK, f"bees/{i % 20}.jpg", 1.0, f"dark {i}") for i in range(1500)]
    page = audit_page(made_up(findings=many))

    assert "dark 999<" in page
    assert "dark 1000<" not in page
    assert "audit.csv lists 500 more." in page


def test_audit_page__says_how_many_images_have_no_thumbnail():
    assert "1 image is named without a thumbnail" in audit_page(
        made_up(thumbnails={path: DOT for path in LABELS if path != QUOTED})
    )


class Page:
    """A page of an audit in a browser, and what a user does in it."""

    def __init__(self, browser, file, report, width=1280, scheme="light"):
        self.file, self.messages, self.requested = file, [], []
        write_page(file, audit_page(report))
        self.view = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        self.view.on("console", lambda message: self.messages.append(message.text))
        self.view.on("pageerror", lambda error: self.messages.append(str(error)))
        self.view.on("request", lambda request: self.requested.append(request.url))
        self.view.goto(file.as_uri())

    def card(self, kind, path):
        card = self.view.locator(f"#{kind} article[aria-label={json.dumps(path)}]")
        card.evaluate("card => card.scrollIntoView()")
        return card

    def status(self) -> str:
        return self.view.locator("#status").text_content()

    def save(self) -> list[list[str]]:
        with self.view.expect_download() as download:
            self.view.get_by_role("button", name="Save decisions.csv").click()
        assert download.value.suggested_filename == "decisions.csv"
        text = download.value.path().read_text(encoding="utf-8")
        return list(csv.reader(StringIO(text)))


@pytest.fixture
def opened(browser, tmp_path):
    """Return a function that opens the page of a report."""
    pages = []

    def open_page(report=None, **how) -> Page:
        pages.append(Page(browser, tmp_path / "audit.html", report or made_up(), **how))
        return pages[-1]

    yield open_page
    for page in pages:
        page.view.close()


def test_page__saves_what_was_decided(opened):
    page = opened()
    page.card("copy", "ants/2.jpg").get_by_label("exclude").check()
    page.card("label", "ants/1.jpg").get_by_label("relabel to").check()
    page.card("label", QUOTED).get_by_label("keep").check()
    page.card("unreadable", "ants/broken.jpg").get_by_label("exclude").check()

    assert page.status() == ("4 decisions: 1 keep, 1 relabel, 2 exclude (not saved yet)")
    assert page.save() == [
        ["path", "action", "label", "sha256"],
        ["ants/2.jpg", "exclude", "", f"{1:064x}"],
        ["ants/1.jpg", "relabel", "bees", f"{0:064x}"],
        [QUOTED, "keep", "", f"{2:064x}"],
        ["ants/broken.jpg", "exclude", "", ""],
    ]
    assert "(saved as decisions.csv)" in page.status()


def test_page__shows_a_decision_in_every_finding_about_the_image_and_takes_it_back(opened):
    page = opened()
    page.card("copy", "ants/1.jpg").get_by_label("exclude").check()
    other = page.card("label", "ants/1.jpg")

    assert other.get_by_label("exclude").is_checked()
    other.get_by_role("button", name="undo").click()
    assert not page.card("copy", "ants/1.jpg").get_by_label("exclude").is_checked()
    assert page.status() == "0 decisions"
    assert page.view.get_by_role("button", name="Save").is_disabled()


def test_page__relabels_only_to_another_class_of_the_dataset(opened):
    page = opened()
    card = page.card("copy", "ants/2.jpg")
    label = card.get_by_label("New label")
    for text, problem in (
        ("", "Which class?"),
        ("wasps", "No class is called wasps."),
        ("ants", "It has this label already"),
    ):
        label.fill(text)
        card.get_by_label("relabel to").click()
        assert problem in card.get_by_role("alert").text_content()
        assert not card.get_by_label("relabel to").is_checked()
    label.fill(SCRIPT)
    label.press("Tab")

    assert card.get_by_label("relabel to").is_checked()
    assert card.get_by_role("alert").count() == 0
    assert page.save()[1][:3] == ["ants/2.jpg", "relabel", SCRIPT]


def test_page__keeps_one_of_a_group_of_copies(opened):
    page = opened()
    page.card("copy", "ants/1.jpg").get_by_role("button", name="keep only this").click()

    assert [row[:2] for row in page.save()[1:]] == [
        *(["ants/1.jpg", "keep"], ["ants/2.jpg", "exclude"]),
    ]


def test_page__is_operated_by_the_keyboard_alone(opened):
    page = opened()
    page.card("label", "ants/1.jpg").focus()
    for key in ("r", "n", "k", "u", "x", "n", "k"):
        page.view.keyboard.press(key)

    assert [row[:3] for row in page.save()[1:]] == [
        ["ants/1.jpg", "relabel", "bees"],
        [QUOTED, "exclude", ""],
        ["bees/0.jpg", "keep", ""],
    ]


def test_page__types_a_label_without_taking_its_letters_for_keys(opened):
    page = opened()
    card = page.card("dark", "bees/0.jpg")
    card.focus()
    page.view.keyboard.press("r")  # nothing is suggested: the field gets the focus
    page.view.keyboard.type("ants")
    page.view.keyboard.press("Enter")

    assert [row[:3] for row in page.save()[1:]] == [["bees/0.jpg", "relabel", "ants"]]


def test_page__filters_by_words_and_by_what_is_undecided(opened):
    page = opened()
    shown = page.view.locator("#shown")
    assert shown.text_content() == f"{len(FINDINGS)} findings"

    page.view.get_by_label("Filter").fill("bees/19")
    assert shown.text_content() == f"1 of {len(FINDINGS)} findings"
    assert page.card("dark", "bees/19.jpg").is_visible()  # it was among those on request
    assert not page.view.locator("#label").is_visible()

    page.view.get_by_label("Filter").fill("")
    page.card("label", QUOTED).get_by_label("keep").check()
    page.view.get_by_label("undecided only").check()
    assert shown.text_content() == f"{len(FINDINGS) - 1} of {len(FINDINGS)} findings"
    assert not page.card("label", QUOTED).is_visible()
    assert not page.card("dark", "bees/19.jpg").is_visible()


def test_page__fills_in_images_only_as_they_are_reached(opened):
    page = opened()
    last = page.card("dark", "bees/19.jpg")
    assert last.locator("img").get_attribute("src") is None

    page.view.locator("#dark summary").click()
    last.scroll_into_view_if_needed()
    last.locator("img[src]").wait_for()
    assert last.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)")


def test_page__keeps_decisions_when_it_is_closed(opened):
    page = opened()
    page.card("label", QUOTED).get_by_label("keep").check()
    page.view.reload()

    assert page.card("label", QUOTED).get_by_label("keep").is_checked()
    assert "(not saved yet)" in page.status()


def test_page__says_so_where_the_browser_keeps_nothing(opened, browser):
    page = opened()
    page.view.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new Error('denied'); }})"
    )
    page.view.reload()
    page.card("label", QUOTED).get_by_label("keep").check()

    assert "lost if you close the page" in page.status()


def test_page__goes_on_from_earlier_decisions(opened):
    before = (
        Decision("bees/gone.jpg", Action.EXCLUDE),
        Decision("ants/1.jpg", Action.RELABEL, "ants", "f" * 64),
        Decision(QUOTED, Action.KEEP),
    )
    page = opened(made_up(decisions=before))
    card = page.card("label", "ants/1.jpg")
    assert not card.get_by_label("keep").is_checked()

    card.get_by_label("keep").check()  # the label that the earlier decision gave it
    page.card("label", QUOTED).get_by_label("exclude").check()
    assert page.save()[1:] == [
        ["bees/gone.jpg", "exclude", "", ""],
        ["ants/1.jpg", "relabel", "ants", f"{0:064x}"],
        [QUOTED, "exclude", "", f"{2:064x}"],
    ]
    card.get_by_role("button", name="undo").click()
    assert page.save()[2] == ["ants/1.jpg", "relabel", "ants", "f" * 64]


def test_page__takes_no_decision_about_a_name_that_is_not_utf8(opened):
    odd = "ants/\udcff.jpg"
    page = opened(made_up(findings=[Finding(Kind.DARK, odd, 1.0, "dark")], labels={odd: "ants"}))
    card = page.view.get_by_role("article")

    card.get_by_text("rename the file to decide about it").wait_for()
    assert card.get_by_label("keep").count() == 0


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page__opens_without_error_request_overflow_or_barrier(opened, width, scheme):
    page = opened(width=width, scheme=scheme)
    for more in page.view.locator("summary").all():
        more.click()
    background = page.view.evaluate("getComputedStyle(document.body).backgroundColor")

    assert page.messages == []
    assert {url for url in page.requested if not url.startswith("data:")} == {page.file.as_uri()}
    assert page.view.evaluate("document.documentElement.scrollWidth") <= width
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    found = Axe().run(page.view).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
