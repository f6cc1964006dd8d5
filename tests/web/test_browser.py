"""The page in a real browser: from the first visit to an adapter that answers, and what breaks."""

from __future__ import annotations

import pytest

from browsing import WAIT, shorten, turn, visit
from lorakit.jobs.queue import QUEUE, Queue

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LONG = 100_000  # steps that no test waits for


def queue_of(server) -> Queue:
    return Queue(server.work / "runs" / QUEUE)


def wait_for(page, text: str, where: str = "#status") -> None:
    page.locator(where).get_by_text(text).first.wait_for(timeout=2 * WAIT)


def test_six_clicks_from_the_first_visit_to_an_adapter_that_answers(context, start):
    server = start()
    page = visit(context, server)
    clicks = []
    page.expose_function("clicked", lambda: clicks.append(1))
    page.evaluate("document.addEventListener('click', () => window.clicked(), true)")
    turn(page, "Train")
    page.locator("#facts").get_by_text("parameters").wait_for()
    page.get_by_role("button", name="Start training").click()
    wait_for(page, "trains")
    page.wait_for_function("document.querySelectorAll('#loss svg .line path').length > 0")
    wait_for(page, "done")
    turn(page, "Try")
    page.wait_for_function("document.querySelector('#try-text textarea').value.includes('name:')")
    page.get_by_role("button", name="Ask").click()
    page.locator(".voice.done").nth(1).wait_for()
    base, own = page.locator(".voice").all()
    asked = page.locator("#try-text textarea").input_value()
    name = asked.split("name: ")[1].split(";")[0]
    assert own.locator("h4").inner_text() == "little-stories"
    assert name in own.locator("p").inner_text()
    assert base.locator("p").inner_text() != own.locator("p").inner_text()
    assert len(clicks) <= 6
    assert page.foreign == []
    assert page.wrong == []


def test_a_run_is_stopped_watched_by_others_and_goes_on(context, start):
    server = start()
    page = visit(context, server, "Train")
    shorten(page, LONG)
    page.get_by_role("button", name="Start training").dblclick()
    wait_for(page, "step")
    assert [job.state for job in queue_of(server).jobs()] == ["running"], "one for two clicks"
    drawn = "[...document.querySelectorAll('#loss svg .line path')].some("
    page.wait_for_function(drawn + "path => path.getTotalLength() > 10)")

    page.reload()
    turn(page, "Train")
    wait_for(page, "trains")
    other = visit(context, server, "Train")
    wait_for(other, "trains")
    other.locator("#stop").click()
    wait_for(page, "cancelled")
    assert queue_of(server).jobs()[0].state == "cancelled"
    step = queue_of(server).jobs()[0].progress.step
    page.locator("#resume").click()
    wait_for(page, "trains")
    wait_for(other, "trains")
    page.wait_for_timeout(3000)
    assert queue_of(server).jobs()[0].progress.step >= step
    page.locator("#stop").click()
    wait_for(page, "cancelled")
    assert page.wrong == []


def test_a_run_outlives_the_page(context, start):
    server = start()
    page = visit(context, server, "Train")
    shorten(page, LONG)
    page.get_by_role("button", name="Start training").click()
    wait_for(page, "step")
    server.kill()
    job = queue_of(server).jobs()[0]
    assert job.state == "running"
    again = start(work=server.work, port=server.port)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.goto(again.address)  # the cookie of before still opens it
    turn(page, "Train")
    wait_for(page, "trains")
    page.locator("#stop").click()
    wait_for(page, "cancelled")


def test_what_is_wrong_is_said_in_place(context, start):
    server = start()
    page = visit(context, server, "Train")
    page.locator("#facts").get_by_text("parameters").wait_for()
    page.locator("#name textarea, #name input").fill("../elsewhere")
    page.get_by_role("button", name="Start training").click()
    wait_for(page, "no name for a run", "#trouble")
    page.locator("#name textarea, #name input").fill("elsewhere")
    page.get_by_role("button", name="All settings").click()
    page.locator("#train-lr textarea, #train-lr input").fill("fast")
    wait_for(page, "train.lr", "#trouble")
    page.locator("#train-lr.wrong", has_text="should be a valid number").wait_for()
    assert page.get_by_text("train.lr").count() == 1, "said once"
    page.locator("#train-lr textarea, #train-lr input").fill("1e-3")
    page.locator("#train-lr:not(.wrong)", has_text="peak learning rate").wait_for()
    page.locator("#train-lr textarea, #train-lr input").fill("fast")
    wait_for(page, "train.lr", "#trouble")
    assert queue_of(server).jobs() == []
    turn(page, "Try")
    page.get_by_role("button", name="Ask").click()
    wait_for(page, "No adapter is chosen", "#try-trouble")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 420])
def test_every_tab_in_every_light_and_width(browser, start, dark, width):
    server = start()
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light"
    )
    try:
        page = visit(context, server)
        for tab in ("Library", "Train", "Try", "Blend", "Learn"):
            turn(page, tab)
            page.get_by_role("tabpanel").first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
            back, front = page.evaluate(
                """() => { const own = getComputedStyle(document.body);
                    return [own.backgroundColor, own.color].map(
                        text => text.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)) }"""
            )
            assert (back < front) == dark, tab
            assert page.locator("#tabs").bounding_box()["width"] > min(width, 1000) - 80, tab
        assert page.wrong == []
        assert page.foreign == []
        assert "Traceback" not in server.log.read_text()
    finally:
        context.close()
