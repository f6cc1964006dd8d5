"""A browser for the module's tests, where there is one."""

from __future__ import annotations

import pytest

from browsing import ARGUMENTS, CHROMIUM, Server


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield own
        own.close()


@pytest.fixture
def context(browser):
    own = browser.new_context(viewport={"width": 1200, "height": 900})
    yield own
    own.close()


@pytest.fixture
def start(tmp_path):
    """Start a page over a folder; every one that was started is ended."""
    servers = []

    def begin(*roots, work=None, port=0, env=None):
        servers.append(Server(work or tmp_path / "work", *roots, port=port, env=env))
        return servers[-1]

    yield begin
    for own in servers:
        own.close()
