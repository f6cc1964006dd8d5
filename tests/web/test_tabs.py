"""Each tab of the page used as people use it, in a real browser."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import lorakit as lk
from browsing import WAIT, Server, choose, number, reach, shorten, visit
from families import randomise
from lorakit.demo import base_folder
from lorakit.demo.recipe import demo_recipe
from lorakit.formats.content import Options
from lorakit.formats.load import read_adapter
from lorakit.train.recipe import make_recipe, set_field
from lorakit.train.run import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ASKED = "Once upon a time there was a hare."


@pytest.fixture(scope="module")
def stocked(tmp_path_factory):
    """A page over two adapters of the tiny base, and a folder beside it with files to import."""
    folder = tmp_path_factory.mktemp("stocked")
    model = AutoModelForCausalLM.from_pretrained(base_folder())
    for seed, name in enumerate(("amber", "birch")):
        torch.manual_seed(seed)
        lk.inject(model, lk.plan(model, "attention", 2), name=name, method=lk.LoRA(alpha=4))
        randomise(model, name)
        lk.save(model, folder / "work" / "adapters" / name, name=name)
    lk.save(model, folder / "elsewhere" / "cedar", name="amber")
    style(folder / "elsewhere" / "style.safetensors")
    server = Server(folder / "work")
    yield server
    server.close()


def style(file: Path) -> None:
    """A file as kohya's trainer writes it, for one layer of an image model."""
    module = "lora_unet_mid_block_attentions_0_proj_in"
    tensors = {
        f"{module}.lora_down.weight": torch.full((4, 6), 0.5),
        f"{module}.lora_up.weight": torch.full((8, 4), 0.25), f"{module}.alpha": torch.tensor(4.0),
    }  # fmt: skip
    save_file(tensors, file)


@pytest.fixture
def elsewhere(stocked) -> Path:
    return stocked.work.parent / "elsewhere"


def told(page, text: str, where: str = "#library-told") -> None:
    page.locator(where).get_by_text(text).first.wait_for(timeout=WAIT)


def card(page, name: str):
    return page.locator("#cards button.card", has=page.get_by_text(name, exact=True))


def opened(page, name: str, tab: str) -> None:
    card(page, name).click()
    page.locator("#facts-of").get_by_role("heading", name=name, exact=True).wait_for()
    page.locator("#detail .blocks.heat").wait_for()
    page.locator("#detail").get_by_role("tab", name=tab, exact=True).click()


def drawn(page, plot: str, lines: int) -> None:
    """Wait until a plot has so many curves of some length."""
    page.wait_for_function(
        """([plot, lines]) => [...document.querySelectorAll(plot + ' .chart > svg .line path')]
            .filter(path => path.getTotalLength() > 10).length >= lines""",
        arg=[plot, lines],
    )


def test_the_library_is_searched(context, stocked):
    page = visit(context, stocked)
    card(page, "amber").wait_for()
    page.locator("#search textarea, #search input").fill("bir lora")
    card(page, "amber").wait_for(state="detached")
    assert card(page, "birch").count() == 1
    page.locator("#search textarea, #search input").fill("no such words")
    page.get_by_text("none that fits").wait_for()
    page.locator("#search textarea, #search input").fill("")
    page.get_by_role("button", name="Filters").click()
    choose(page, "#filter-method", "lora")
    card(page, "amber").wait_for()
    opened(page, "birch", "Spectra")
    drawn(page, "#detail", 6)
    page.locator("#close").click()
    page.locator("#facts-of").wait_for(state="hidden")
    assert page.wrong == []


def test_files_of_other_tools_are_imported(context, stocked, elsewhere):
    page = visit(context, stocked)
    page.get_by_role("button", name="Import").first.click()
    file = elsewhere / "style.safetensors"
    page.locator("#brought input[type=file]").set_input_files(file)
    page.locator("#brought").get_by_text(".safetensors").first.wait_for()
    page.locator("#bring-name textarea, #bring-name input").fill("painted")
    page.locator("#bring").click()
    told(page, "painted is here now", "#bring-told")
    kept = stocked.work / "adapters" / "painted.safetensors"
    assert kept.read_bytes() == file.read_bytes()
    page.locator("#facts-of").get_by_text("kohya").wait_for()

    page.get_by_role("button", name="Clear").click()
    folder = elsewhere / "cedar"
    page.locator("#brought input[type=file]").set_input_files(
        [folder / "adapter_config.json", folder / "adapter_model.safetensors"]
    )
    page.locator("#brought").get_by_text("adapter_config").first.wait_for()
    page.locator("#bring-name textarea, #bring-name input").fill("cedar")
    page.locator("#bring").click()
    told(page, "cedar is here now", "#bring-told")
    one, two = read_adapter(folder), read_adapter(stocked.work / "adapters" / "cedar")
    assert one.tensors().keys() == two.tensors().keys()
    assert all(torch.equal(value, two.tensors()[name]) for name, value in one.tensors().items())
    page.locator("#bring").click()
    # The name is taken now, and the message gives a free one.
    page.locator("#bring-told [role=alert]", has_text="cedar").wait_for()
    assert page.wrong == []


def test_an_adapter_is_converted_and_downloaded(context, stocked, tmp_path):
    page = visit(context, stocked)
    opened(page, "amber", "Convert and share")
    choose(page, "#format", "loralib")
    page.locator("#make").click()
    told(page, "is the same to", "#proof")
    with page.expect_download() as coming:
        page.locator("#file a").first.click()
    file = tmp_path / "made.zip"
    coming.value.save_as(file)
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path)
    before = read_adapter(stocked.work / "adapters" / "amber")
    options = Options(alpha=4.0)
    after = read_adapter(tmp_path / "amber" / "lora.pt", options=options, pickles=True)
    assert set(after.low_rank) == set(before.low_rank)
    choose(page, "#format", "vera")
    page.locator("#make").click()
    page.locator("#proof [role=alert]").wait_for()
    assert page.wrong == []


def test_names_and_tags_change_and_what_was_deleted_comes_back(context, stocked):
    page = visit(context, stocked)
    opened(page, "birch", "Change")
    page.locator("#tags textarea, #tags input").fill("trees, <b>bold</b>")
    page.locator("#save").click()
    told(page, "Kept with birch")
    card(page, "birch").locator("i", has_text="trees").wait_for()
    page.locator("#delete").click()
    told(page, "in the trash")
    card(page, "birch").wait_for(state="detached")
    assert not (stocked.work / "adapters" / "birch").exists()
    page.locator("#undo").click()
    told(page, "birch is back")
    card(page, "birch").wait_for()
    assert (stocked.work / "adapters" / "birch" / "adapter_config.json").exists()
    page.locator("#detail .blocks.heat").wait_for(state="attached")  # behind another tab
    page.locator("#new-name textarea, #new-name input").fill("../birch")
    page.locator("#rename").click()
    page.locator("#library-told [role=alert]").wait_for()
    assert page.wrong == []


def test_two_adapters_answer_side_by_side(context, stocked):
    page = visit(context, stocked, "Try")
    choose(page, "#try-adapters", "amber", "birch", only=True)
    page.get_by_label("All at once as well").check()
    page.locator("#try-text textarea").fill(ASKED)
    page.locator("#try-go").click()
    page.locator(".voice.done").nth(3).wait_for()
    names = page.locator(".voice h4").all_inner_texts()
    said = page.locator(".voice p").all_inner_texts()
    assert names == ["base", "amber", "birch", "all at once"]
    assert len(set(said)) == 4
    page.get_by_role("button", name="How they answer").click()
    number(page, "#try-strength", "0")
    page.locator("#try-go").click()
    page.wait_for_function("document.querySelectorAll('.voice.writes').length > 0")
    page.wait_for_function("document.querySelectorAll('.voice.done').length == 4")
    names = page.locator(".voice h4").all_inner_texts()
    assert names == ["base", "amber at 0", "birch at 0", "all at once"]
    assert page.locator(".voice p").all_inner_texts() == [said[0]] * 4
    number(page, "#try-strength", "1")
    page.get_by_role("button", name="Layers that act").click()
    for column in ("q_proj", "k_proj", "v_proj", "o_proj"):
        page.locator("#try-layers thead button", has_text=column).click()
        cell = page.locator("#try-layers td button[aria-pressed=true]")
        page.locator(f"#try-layers td button[aria-label*='{column}, is off']").first.wait_for()
    page.locator("#try-go").click()
    page.wait_for_function("document.querySelectorAll('.voice.writes').length > 0")
    page.wait_for_function("document.querySelectorAll('.voice.done').length == 4")
    assert page.locator(".voice p").all_inner_texts() == [said[0]] * 4
    assert cell.count() > 0, "feed-forward layers are not adapted, and still on"
    assert page.wrong == []


def test_a_blend_is_heard_and_kept(context, stocked):
    page = visit(context, stocked, "Blend")
    choose(page, "#blend-adapters", "amber", "birch", only=True)
    page.locator("#weight-1").get_by_text("Weight of birch").wait_for()
    for place, weight in ((0, "0.5"), (1, "-0.25")):
        number(page, f"#weight-{place}", weight)
    page.locator("#blend-text textarea").fill(ASKED)
    page.locator("#blend-hear").click()
    page.locator("#blend-answers .voice.done").nth(3).wait_for()
    page.get_by_role("button", name="What they have in common").click()
    page.locator("#overlap td").first.wait_for()
    page.locator("#blend-name textarea, #blend-name input").fill("dusk")
    page.locator("#blend-keep").click()
    told(page, "dusk is in the library", "#blend-told")
    amber, birch, dusk = (
        {path: low.B.double() @ low.A.double() * state.scale(low)
         for path, low in state.low_rank.items()}
        for state in (read_adapter(stocked.work / "adapters" / name)
                      for name in ("amber", "birch", "dusk"))
    )  # fmt: skip
    for path, value in dusk.items():
        wanted = 0.5 * amber[path] - 0.25 * birch[path]
        assert torch.dist(value, wanted) <= 1e-6 * wanted.norm()
    page.locator("#blend-keep").click()
    page.locator("#blend-told [role=alert]").wait_for()
    assert page.wrong == []


def test_programs_ask_the_page(stocked):
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    token = stocked.link.partition("token=")[2]
    headers = {"authorization": f"Bearer {token}"}
    client = Client(stocked.address, headers=headers, verbose=False)
    told = client.view_api(return_format="dict")["named_endpoints"]
    assert set(told) == {"/search", "/runs", "/answer"}
    assert [own["shown"] for own in client.predict("amber", api_name="/search")] == ["amber"]
    assert client.predict(api_name="/runs") == []
    found = client.predict(ASKED, "amber", 0.0, 8, api_name="/answer")
    assert found["base"] == found["amber at 0"] != ""
    for adapter in ("nobody", "../../etc", str(stocked.work.parent / "elsewhere" / "cedar")):
        with pytest.raises(AppError, match="no adapter"):
            client.predict(ASKED, adapter, api_name="/answer")
    with pytest.raises(AppError, match="max_new_tokens"):
        client.predict(ASKED, "amber", 1.0, -5, api_name="/answer")


def test_clicks_on_layers_are_the_recipe_and_the_recipe_is_the_clicks(context, stocked):
    page = visit(context, stocked, "Train")
    page.locator("#facts").get_by_text("parameters").wait_for()
    before = page.locator("#facts").inner_text()
    page.get_by_role("button", name="Recipe and command").click()
    page.get_by_role("button", name="Where it learns").click()
    page.locator("#preset").get_by_label("Query and value").check()
    page.wait_for_function("document.querySelector('.cm-content').innerText.includes('- v')")
    pressed = "#blocks td button[aria-pressed=true]"
    page.wait_for_function(f"document.querySelectorAll('{pressed}').length == 12")
    page.locator("#blocks tbody th button", has_text="model.layers.0").click()
    page.wait_for_function(f"document.querySelectorAll('{pressed}').length == 17")
    page.wait_for_function("!document.querySelector('.cm-content').innerText.includes('- v\\n')")
    assert page.locator("#facts").inner_text() != before
    text = page.locator(".cm-content").first.inner_text().replace("\xa0", " ")
    assert "layers.0" in text
    page.wait_for_timeout(3000)  # what the click set off, which writes the recipe anew, has ended
    data = (
        f"data: {{train: {stocked.work}/data/stories/train.jsonl, prompt: '{{attributes}}', "
        "completion: '{description}'}"
    )
    recipe = (
        f"model: {base_folder()}\ntask: completion\n{data}\n"
        "lora: {targets: [o, down], rank: {'*.0.*': 3, '*': 5}}\n"
    )
    for text in (f"{recipe}output: typed\n", recipe):
        page.locator(".cm-content").first.click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(text)
        page.get_by_role("button", name="Use this recipe in the form").click()
        if "output" in text:
            told(page, "not below", "#trouble")  # which is where the page may write
    page.wait_for_function(f"document.querySelectorAll('{pressed}').length == 12")
    ranks = page.locator(pressed).all_inner_texts()
    assert sorted(ranks) == ["3"] * 2 + ["5"] * 10
    assert page.wrong == []


def test_a_run_writes_while_it_learns_and_runs_are_compared(context, start, tmp_path):
    work = tmp_path / "work"
    raw = demo_recipe(work / "data" / "stories", str(work / "runs" / "first")).model_dump()
    for name, value in (("train.steps", 4), ("train.batch_size", 2), ("data.eval_rows", 4)):
        set_field(raw, name, value)
    run(make_recipe(raw), quiet=True)
    server = start(work=work)
    page = visit(context, server, "Train")
    shorten(page, 100_000)
    page.locator("#train-save_every textarea, #train-save_every input").fill("5")
    page.locator("#train-batch_size textarea, #train-batch_size input").fill("2")
    page.wait_for_function("document.querySelector('.cm-content').innerText.includes('save_every')")
    page.locator("#start").click()
    page.locator("#status").get_by_text("trains").wait_for()
    page.get_by_role("button", name="What it writes by now").click()
    page.get_by_label("And again at every checkpoint").check()
    page.locator("#samples li", has_text="after step").nth(1).wait_for()
    steps = page.locator("#samples b").all_inner_texts()
    assert len(set(steps)) == len(steps)
    page.get_by_label("And again at every checkpoint").uncheck()
    page.locator("#stop").click()
    page.locator("#status").get_by_text("cancelled").wait_for()

    page.get_by_role("button", name="All runs").click()
    page.locator("#runs .spark").nth(1).wait_for()
    choose(page, "#compare", "runs/first", "runs/little-stories")
    page.locator("#comparison th", has_text="train.steps").wait_for()
    drawn(page, "#compared-loss", 2)
    page.locator("#reuse").click()
    page.wait_for_function("document.querySelector('.cm-content').innerText.includes('steps: 4')")
    assert page.wrong == []


def test_everything_is_reached_by_keyboard(context, start):
    server = start()
    page = visit(context, server)
    for tab in ("Library", "Train", "Try", "Blend", "Learn"):
        reach(page, f"#tabs > .tab-wrapper [role=tab]:has-text('{tab}')")
        page.keyboard.press("Enter")
        page.wait_for_timeout(500)
        page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
        missed = reach(page, None)
        assert missed == [], tab
    reach(page, "#tabs > .tab-wrapper [role=tab]:has-text('Train')")
    page.keyboard.press("Enter")
    page.locator("#facts").get_by_text("parameters").wait_for()
    reach(page, "#start")
    page.keyboard.press("Enter")
    page.locator("#status").get_by_text("trains").wait_for()
    reach(page, "#stop")
    page.keyboard.press("Enter")
    page.locator("#status").get_by_text("cancelled").wait_for(timeout=2 * WAIT)
    assert page.wrong == []
