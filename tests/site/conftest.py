"""The built site, served on localhost, and a browser to read it with."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from mini_lib.book import root

HTML = root() / "_build/html"
SOURCES = ("_config.yml", "_toc.yml", "_static", "site_root", "chapters", "taxonomy", "mini_lib/book",
           "mini_lib/taxonomy")


def pages() -> list[str]:
    """All pages of the table of contents, without suffix, in its order."""
    found = []

    def walk(node):
        if isinstance(node, list):
            for item in node:
                walk(item)
        elif isinstance(node, dict):
            found.extend(node[key] for key in ("root", "file") if key in node)
            if "glob" in node:
                found.extend(path.relative_to(root()).with_suffix("").as_posix()
                             for path in sorted(root().glob(f"{node['glob']}.md")))
            for key in ("parts", "chapters", "sections"):
                walk(node.get(key))

    walk(yaml.safe_load((root() / "_toc.yml").read_text(encoding="utf-8")))
    return found


def chosen_pages() -> list[str]:
    """Every kind of page: all but the nodes, and three of those; their pages are made by one template."""
    nodes = [page for page in pages() if page.startswith("taxonomy/nodes/")]
    return [page for page in pages() if page not in nodes] + nodes[:3] + ["search"]


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built site; built here if it is missing or older than its sources."""
    built = HTML / "searchindex.js"
    files = [path for name in SOURCES for path in [root() / name, *(root() / name).rglob("*")]
             if path.is_file() and "__pycache__" not in path.parts]
    if not built.exists() or max(path.stat().st_mtime for path in files) > built.stat().st_mtime:
        command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(root()), "-W", "-n", "--keep-going"]
        result = subprocess.run(command, capture_output=True, text=True, cwd=root())
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
        built.touch()
    return HTML


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def address(html) -> str:
    """Where the site is served: below a folder, as on GitHub Pages, so that absolute links would break."""
    handler = functools.partial(Quiet, directory=str(html.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{html.name}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium. Without one: skip aloud on a user's machine, fail where CI=true."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        sentence = "No Chromium was found, so no page was opened. Install it with: apt-get install chromium"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(sentence)
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def contexts(browser):
    """One browser context for each width and colour mode, so that the theme's files are fetched once."""
    made = {}

    def context(width: int, dark: bool):
        if (width, dark) not in made:
            made[width, dark] = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce",
                                                    color_scheme="dark" if dark else "light")
        return made[width, dark]

    yield context
    for context in made.values():
        context.close()


@pytest.fixture
def visit(contexts, address):
    """`visit(page, width, dark)` opens a page; what went wrong on the way is in `page.problems`."""
    opened, here = [], address.rsplit("/", 2)[0]

    def open_page(name: str, width: int = 1280, dark: bool = False, wait_until: str = "load"):
        page, problems = contexts(width, dark).new_page(), []
        opened.append(page)
        page.on("request", lambda request: request.url.startswith((here, "data:", "blob:"))
                or problems.append(f"asks another server: {request.url}"))
        page.on("console", lambda message: message.type in ("error", "warning")
                and problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
        page.on("requestfailed", lambda request: problems.append(f"request failed: {request.url}"))
        page.on("response", lambda answer: answer.status >= 400 and problems.append(f"{answer.status}: {answer.url}"))
        page.goto(f"{address}{name}.html", wait_until=wait_until)
        page.problems = problems
        return page

    yield open_page
    for page in opened:
        page.close()
