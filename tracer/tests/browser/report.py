"""Uses an HTML report as people do: `report.py CHECKS PAGE`, where CHECKS is a function below.

Selenium and chromedriver come from Debian (python3-selenium, chromium-driver), so that driver and browser fit together
and nothing is fetched. Each page has to be without an error on the console, which a violation of its
policy would be, and without a request for anything but itself.
"""

import json
import os
import pathlib
import sys
import tempfile

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

# For everything that happens at once on any machine that works.
PATIENCE_S = 90

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Page:
    """A report in a browser of its own."""

    def __init__(self, path, profile, size=(1400, 900)):
        options = webdriver.ChromeOptions()
        options.binary_location = os.environ["CHROMIUM"]
        for argument in [*ARGUMENTS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self.path = path
        self.url = pathlib.Path(path).resolve().as_uri()
        # What the browser shows before is its own affair.
        self.driver.get("about:blank")
        self.driver.get_log("performance")

    def open(self, scheme="light"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(self.url)
        self.until("it is ready", lambda: self.js("return document.documentElement.dataset.ready"))

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, what, holds):
        WebDriverWait(self.driver, PATIENCE_S, 0.02).until(lambda _: holds(), what)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.one(selector).text

    def keys(self, *keys):
        """To whatever has the focus; drawing follows in the next frames."""
        self.driver.switch_to.active_element.send_keys(*keys)
        self.settle()

    def settle(self):
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def focus(self, selector):
        self.js("document.querySelector(arguments[0]).focus()", selector)

    def click(self, selector):
        self.one(selector).click()
        self.settle()

    def window(self):
        return [float(it.get_attribute("value")) for it in self.all(".window input")]

    def rows(self, view):
        """The rows in sight, as lists of texts."""
        script = """return [...document.querySelectorAll(arguments[0] + ' .rows .row')]
            .sort((a, b) => a.ariaRowIndex - b.ariaRowIndex)
            .map((row) => [...row.children].map((cell) => cell.textContent))"""
        return self.js(script, f"#view-{view}")

    def requests(self):
        """What was asked for since the page was opened."""
        messages = [json.loads(it["message"])["message"] for it in self.driver.get_log("performance")]
        sent = [it["params"] for it in messages if it["method"] == "Network.requestWillBeSent"]
        # Announced, and then kept back by the page's policy.
        failed = [it["params"] for it in messages if it["method"] == "Network.loadingFailed"]
        refused = {it["requestId"] for it in failed if it.get("blockedReason") == "csp"}
        return [it["request"]["url"] for it in sent if it["requestId"] not in refused]

    def close(self):
        """Nothing may have gone wrong on the way, and nothing may have been asked for."""
        complaints = [it["message"] for it in self.driver.get_log("browser")]
        requests = self.requests()
        self.driver.quit()
        check(not complaints, f"the console says {complaints}")
        foreign = [it for it in requests if it != self.url and not it.startswith("data:")]
        check(requests and not foreign, f"it asked for {foreign}")


def check(holds, message):
    if not holds:
        raise AssertionError(message)


def equal(found, wanted, what):
    check(found == wanted, f"{what}: {found!r}, wanted {wanted!r}")


def drag(page, begin, end):
    """Over the plot, from one share of its width to another."""
    plot = page.one(".u-over")
    width = plot.size["width"]
    actions = ActionChains(page.driver, duration=20)
    actions.move_to_element_with_offset(plot, width * (begin - 0.5), 0).click_and_hold()
    for step in range(1, 6):
        actions.move_to_element_with_offset(plot, width * (begin + (end - begin) * step / 5 - 0.5), 3)
    actions.release().perform()
    page.settle()


def use(page):
    page.open()
    header(page)
    brush(page)
    search(page)
    flamegraph(page)
    trees(page)
    table(page)
    escape(page)
    theme(page)
    help_and_tabs(page)
    sizes(page)


def header(page):
    check("grows by" in page.text(".headline"), f"the suspect comes first: {page.text('.headline')}")
    equal(page.text(".grade"), "A", "the grade")
    check("OOM killer" in page.text(".facts summary"), "how the process ended")
    page.click(".facts summary")
    check("unknown frees" in page.text(".losses"), "losses by name")
    equal(len(page.all(".processes tbody tr")), 1, "processes")
    equal(page.all(".cut"), [], "it is not cut off")
    page.click(".facts summary")


def live_in_headline_site(page):
    return page.text(".detail dl dd")


def brush(page):
    """What is live at the end of a window follows the window, and comes back with it."""
    whole = page.window()
    before = live_in_headline_site(page)
    drag(page, 0.25, 0.5)
    chosen = page.window()
    check(abs(chosen[0] - whole[1] * 0.25) <= 1 and abs(chosen[1] - whole[1] * 0.5) <= 1, f"window {chosen} of {whole}")
    check(live_in_headline_site(page) != before, "numbers follow the window")
    selection = page.one(".u-select").size["width"] / page.one(".u-over").size["width"]
    check(abs(selection - 0.25) < 0.05, f"the selection stays drawn: {selection}")
    page.focus(".plot")
    page.keys(Keys.ARROW_RIGHT)
    equal(page.window(), [chosen[0] + 1, chosen[1] + 1], "the window after an arrow key")
    page.keys(Keys.SHIFT, Keys.ARROW_RIGHT)
    equal(page.window(), [chosen[0] + 1, chosen[1] + 2], "the window after shift and an arrow key")
    exact = page.all(".window input")[0]
    exact.send_keys(Keys.CONTROL, "a", Keys.NULL, "7", Keys.ENTER)
    page.settle()
    equal(page.window()[0], 7, "a beginning that was typed")
    ActionChains(page.driver).double_click(page.one(".u-over")).perform()
    page.settle()
    equal(page.window(), whole, "the window after a double click")
    equal(live_in_headline_site(page), before, "numbers of the whole recording")


def search(page):
    """Words restrict every view."""
    sites = page.text(".found-count")
    page.keys("/")
    equal(page.driver.switch_to.active_element.get_attribute("id"), "search", "/ goes to the search")
    page.keys("no such function")
    check(page.text(".found-count").startswith("0 sites"), page.text(".found-count"))
    check("nothing to show" in page.text(".caption"), page.text(".caption"))
    for _ in "no such function":
        page.keys(Keys.BACKSPACE)
    page.keys("LEDGER on_message")
    page.until("a search has its effect", lambda: page.text(".found-count") != sites)
    check(not page.text(".found-count").startswith("0 sites"), page.text(".found-count"))
    page.js("document.activeElement.blur()")
    page.keys("4")
    names = page.js("return [...document.querySelectorAll('#view-sites .rows .row')].length")
    check(names > 0, "sites are found")
    page.keys(Keys.ESCAPE)
    equal(page.text(".found-count"), sites, "sites after Esc")
    page.keys("1")


def voice(page):
    return page.js("return document.getElementById('flame-voice').ariaLabel")


def flamegraph(page):
    page.keys("1")
    page.focus(".flame")
    page.keys(Keys.HOME)
    equal(voice(page).split(",")[0], "all", "the frame at Home")
    for _ in range(4):
        page.keys(Keys.ARROW_DOWN)
    deep = voice(page)
    check(deep.split(",")[0] != "all", "arrow keys go down")
    equal(page.js("return document.getElementById('flame-voice').getAttribute('aria-level')"), "5", "its level")
    check(page.one(".tip").is_displayed(), "its numbers are shown")
    page.keys(Keys.ENTER)
    check(page.one(".flame-view .bar button").is_displayed(), "Enter zooms")
    page.keys(Keys.ARROW_UP)
    check(voice(page) != deep, "the way up")
    page.keys(Keys.ESCAPE)
    check(not page.one(".flame-view .bar button").is_displayed(), "Esc ends the zoom")
    canvas = page.one(".flame canvas")
    actions = ActionChains(page.driver)
    actions.move_to_element_with_offset(canvas, 10 - canvas.size["width"] / 2, 50 - canvas.size["height"] / 2).click().perform()
    page.settle()
    check(page.one(".flame-view .bar button").is_displayed(), "a click zooms")
    check(page.all(".detail .stack li"), "and shows a stack")
    page.click(".flame-view .bar button")
    pixels = """const c = document.querySelector('.flame canvas'); const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        const seen = new Set(); for (let at = 0; at < p.length; at += 4) seen.add((p[at] << 16) | (p[at + 1] << 8) | p[at + 2]); return seen.size"""
    check(page.js(pixels) > 10, "something is drawn")


def trees(page):
    page.click("#tab-tree")
    rows = page.rows("tree")
    equal(rows[0][1], "100 %", "all allocations begin in one function")
    page.focus("#view-tree .grid")
    page.keys(Keys.HOME)
    opened = len(page.rows("tree"))
    page.keys(Keys.ARROW_LEFT)
    equal(len(page.rows("tree")), 1, "rows after the first was closed")
    page.keys(Keys.ARROW_RIGHT)
    check(len(page.rows("tree")) > 1, f"rows after it was opened again, of {opened}")
    page.keys(Keys.ARROW_DOWN)
    active = page.js("const g = document.querySelector('#view-tree .grid'); return document.getElementById(g.getAttribute('aria-activedescendant')).ariaLevel")
    equal(active, "2", "the level of the active row")
    page.click("#tab-callers")
    callers = page.rows("callers")
    suspect = page.text(".suspect")
    equal(callers[0][0].lstrip("▾▸"), suspect, "who allocates most")
    check(callers[0][3] != "–", "it allocates itself")
    # Callers of the first one add up to it.
    page.focus("#view-callers .grid")
    page.keys(Keys.HOME)
    page.click("#tab-sites")


def table(page):
    page.click("#tab-sites")
    grid = "#view-sites .grid"
    page.focus(grid)
    page.keys(Keys.HOME)
    first = page.js("return document.querySelector('#view-sites [aria-selected=true]').ariaRowIndex")
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    second = page.js("return document.querySelector('#view-sites [aria-selected=true]').ariaRowIndex")
    equal(int(second) - int(first), 2, "rows down")
    page.keys(Keys.END)
    count = int(page.one(grid).get_attribute("aria-rowcount"))
    equal(page.js("return document.querySelector('#view-sites [aria-selected=true]').ariaRowIndex"), str(count), "the last row")
    check(len(page.all("#view-sites .rows .row")) < 120, "only rows in sight are elements")
    check(page.all(".detail .stack li"), "its stack is shown")
    heads = page.all("#view-sites [role=columnheader] button")
    blocks = next(it for it in heads if it.text == "Blocks")
    blocks.click()
    page.focus(grid)
    page.keys(Keys.HOME)
    down = [int(it[7].replace(",", "")) for it in page.rows("sites")]
    equal(down, sorted(down, reverse=True), "most blocks first")
    blocks.send_keys(Keys.ENTER)
    page.focus(grid)
    page.keys(Keys.HOME)
    up = [int(it[7].replace(",", "")) for it in page.rows("sites")]
    equal(up, sorted(up), "fewest blocks first")
    measures = page.all(".measures label")
    measures[1].click()
    page.settle()
    equal(page.js("return document.querySelector('#view-sites [aria-sort]').textContent"), "Growth", "what it is sorted by")
    measures[0].click()


def escape(page):
    whole = page.window()
    drag(page, 0.5, 0.75)
    page.one("#search").send_keys("ledger")
    page.settle()
    page.keys(Keys.ESCAPE)
    equal((page.window(), page.one("#search").get_attribute("value")), (whole, ""), "after Esc")


def theme(page):
    paper = lambda: page.js("return getComputedStyle(document.documentElement).backgroundColor")
    light = paper()
    page.click("#theme")
    dark = paper()
    check(light != dark, f"{light} and {dark}")
    page.js("document.activeElement.blur()")
    page.keys("t")
    equal(paper(), light, "the colour after two changes")
    page.open("dark")
    equal(paper(), dark, "the colour for those who prefer it dark")
    page.open("light")


def help_and_tabs(page, parts=("theme", "help-button", "plot", "search", "tab-flame", "flame", "detail")):
    page.keys("?")
    check(page.one("dialog").is_displayed(), "? opens the help")
    page.keys(Keys.ESCAPE)
    check(not page.one("dialog").is_displayed(), "Esc closes it")
    # Everything that acts is reached by the tabulator, and can be seen to be.
    reached = set()
    page.js("document.activeElement.blur()")
    for _ in range(40):
        page.keys(Keys.TAB)
        what = page.js("const it = document.activeElement; return it.id || it.className || it.ariaLabel || it.textContent")
        outline = page.js(
            """const it = document.activeElement; const seen = it.matches('.measures input') ? it.nextSibling : it;
            return it === document.body ? 'none' : getComputedStyle(seen).outlineStyle"""
        )
        check(outline != "none" or what == "" or page.js("return document.activeElement === document.body"), f"no focus to be seen at {what}")
        reached.add(what)
    for wanted in parts:
        check(wanted in reached, f"{wanted} is not among {reached}")


def sizes(page):
    """Nothing is wider than the window."""
    for width in [390, 800, 1400]:
        page.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        )
        page.settle()
        found = page.js("return document.documentElement.scrollWidth")
        check(found <= width, f"{found} pixels wide in a window of {width}")
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def names(page):
    """Names that would like to be markup or script are text in every view."""
    page.open()
    check(page.all(".cut"), "it says that it was cut off")
    for view in ["tree", "callers", "sites", "flame"]:
        page.click(f"#tab-{view}")
        if view in ("tree", "callers"):
            page.focus(f"#view-{view} .grid")
            for _ in range(6):
                page.keys(Keys.ARROW_RIGHT)
    page.click("#tab-sites")
    page.focus("#view-sites .grid")
    wanted = {"</script><script>alert(1)</script>", "<img src=x onerror=alert(2)>", "<svg onload=alert(3)>", "<!--<script>"}
    for _ in range(200):
        page.keys(Keys.ARROW_DOWN)
        stack = page.text(".detail")
        wanted = {it for it in wanted if it not in stack}
    equal(wanted, set(), "names that were not shown as they are")
    page.one("#search").send_keys("<img src=x")
    page.settle()
    check(not page.text(".found-count").startswith("0 "), page.text(".found-count"))
    equal(page.js("return document.querySelectorAll('script:not(#data)').length"), 2, "scripts, ours")
    equal(page.js("return document.querySelectorAll('img, [onerror], [onload], [onmouseover]').length"), 0, "markup from names")


def policy(page):
    """Even what got into the page as markup would do nothing."""
    page.open()
    page.js(
        """const script = document.createElement('script'); script.textContent = 'window.ran = "script"'; document.body.append(script);
        document.body.insertAdjacentHTML('beforeend', '<img src="https://localhost/x.png" onerror="window.ran = 1">');
        document.body.insertAdjacentHTML('beforeend', '<p id="styled" style="color: rgb(1, 2, 3)">x</p>');
        setTimeout(() => { try { new Function('window.ran = "function"')(); } catch { window.refused = true; } });
        fetch('https://localhost/').catch(() => { window.offline = true; });"""
    )
    page.until("all was tried", lambda: page.js("return window.refused && window.offline"))
    equal(page.js("return window.ran ?? null"), None, "what has run")
    check(page.js("return getComputedStyle(document.getElementById('styled')).color") != "rgb(1, 2, 3)", "a style by attribute")
    complaints = [it["message"] for it in page.driver.get_log("browser")]
    check(len(complaints) >= 4, f"the browser says so: {complaints}")
    requests = page.requests()
    equal([it for it in requests if "localhost" in it], [], "requests")


def size(value):
    """As the reports write it."""
    if abs(value) < 1024:
        return f"{value} B"
    for unit in ["KiB", "MiB", "GiB"]:
        value /= 1024
        if abs(value) < 1023.95:
            return f"{value:.1f} {unit}"
    raise AssertionError(f"{value} is beyond what is tested here")


def change(value):
    return f"+{size(value)}" if value > 0 else size(value).replace("-", "\u2212")


def window(page):
    """From 10 to 20 of 40 seconds; the JSON report of the same window lies beside the page."""
    page.open()
    equal(page.window(), [10, 20], "the window")
    selection = page.one(".u-select").size["width"] / page.one(".u-over").size["width"]
    check(abs(selection - 0.25) < 0.02, f"it is drawn: {selection}")
    report = json.loads(pathlib.Path(page.path).with_name("report.json").read_text())
    page.click("#tab-sites")
    for process in [None, 7, 8]:
        sites = [it for it in report["sites"] if it["kind"] == "heap" and process in (None, it["pid"])]
        # Each with its numbers in the window, in any order.
        wanted = sorted((size(it["allocated_bytes"]), change(it["change_bytes"])) for it in sites)
        if process:
            page.click("[aria-label=Process]")
            page.keys(f"({process})")
            page.keys(Keys.ENTER)
            page.settle()
        rows = {}
        page.focus("#view-sites .grid")
        for key in [Keys.HOME, Keys.PAGE_DOWN, Keys.PAGE_DOWN, Keys.END]:
            page.keys(key)
            script = "return [...document.querySelectorAll('#view-sites .rows .row')].map((it) => [it.ariaRowIndex, it.children[5].textContent, it.children[3].textContent])"
            rows |= {row: (allocated, growth) for row, allocated, growth in page.js(script)}
        equal(sorted(rows.values()), wanted, f"what sites of process {process or 'any'} allocated, and grew by")
    page.click(".window button")
    equal(page.window(), [0, 40], "the whole recording is there")


def crowd(page):
    """A thousand processes, of which one is found by its number, with the keyboard alone."""
    page.open()
    equal(page.js("return document.querySelectorAll('#scopes option').length"), 1001, "all, and each")
    field = "document.querySelector('[aria-label=Process]')"
    equal(page.js(f"return {field}.value"), "All 1,000 processes", "what is looked at")
    page.click("#tab-sites")
    count = lambda: page.text(".found-count")
    everything = count()
    page.keys("p")
    equal(page.js(f"return document.activeElement === {field}"), True, "the key leads there")
    page.keys("(507)", Keys.ENTER)
    equal(page.js(f"return {field}.placeholder !== ''"), True, "the old choice stays in sight")
    check(count() != everything, f"fewer sites than {everything}")
    names = {row[-1] for row in page.rows("sites")}
    equal(names, {"orderd (507)"}, "whose sites are listed")
    page.click("#tab-flame")
    equal(page.js(f"return {field}.value"), "orderd (507)", "what is looked at now")
    screenshot = pathlib.Path(page.path).with_name("crowd.png")
    page.driver.save_screenshot(str(screenshot))
    page.focus("#search")
    page.keys(Keys.ESCAPE)
    equal(page.js(f"return {field}.value"), "All 1,000 processes", "Escape takes all again")


def others(page):
    """Five sites have rows of their own."""
    page.open()
    page.click("#tab-sites")
    names = [it[0] for it in page.rows("sites")]
    check(any("more sites]" in it for it in names), f"the others are summed up: {names}")
    check(page.text(".found-count").startswith("49 sites"), f"and counted: {page.text('.found-count')}")


def comparison(page):
    """What the JSON of the comparison says, as the page shows it; the heap is what it opens with."""
    page.open()
    report = json.loads(pathlib.Path(page.path).with_name("report.json").read_text())
    sites = [it for it in report["sites"] if it["kind"] == "heap"]
    first = sites[0]["change"]["live_bytes"]
    headline = page.text(".headline")
    check(f"holds {size(abs(first))} {'less' if first < 0 else 'more'}" in headline, headline)
    before, after = (size(sites[0][it]["live_bytes"]) for it in ("before", "after"))
    check(f"{before} \u2192 {after}" in headline, headline)
    totals = [sum(it[side]["live_bytes"] for it in sites) for side in ("before", "after")]
    total = f"In all {size(totals[0])} \u2192 {size(totals[1])} live heap ({change(totals[1] - totals[0])})"
    check(total in page.text(".also"), f"{total}: {page.text('.also')}")
    equal([it.text for it in page.all(".timeline .number")], [size(it) for it in totals], "the bars")
    equal(page.all(".window input, .u-over"), [], "what is about a window")
    changed_flamegraph(page, totals, first)
    changed_table(page, sites)
    changed_trees(page, totals)
    found = page.text(".found-count")
    page.keys("/")
    page.keys("LEDGER")
    page.until("a search has its effect", lambda: page.text(".found-count") != found)
    check(page.text(".timeline .number") != size(totals[0]) or first > 0, "the bars follow the search")
    page.keys(Keys.ESCAPE)
    equal(page.text(".found-count"), found, "sites after Esc")
    theme(page)
    help_and_tabs(page, ["theme", "help-button", "search", "tab-flame", "flame", "detail"])
    sizes(page)


def changed_flamegraph(page, totals, first):
    """What has gone is as wide as it was; the colour and a sign say which way it went."""
    page.keys("1")
    page.focus(".flame")
    page.keys(Keys.HOME)
    amounts = f"{size(totals[0])} \u2192 {size(totals[1])} live ({change(totals[1] - totals[0])})"
    equal(voice(page), f"all, {amounts}", "what is said of everything")
    check(amounts in page.text(".caption"), page.text(".caption"))
    page.keys(Keys.ARROW_DOWN)
    check(("(\u2212" if first < 0 else "(+") in voice(page), f"the sign of the change: {voice(page)}")
    # At the right end of the first row no letter stands.
    pixel = """const c = document.querySelector('.flame canvas');
        return [...c.getContext('2d').getImageData(c.width - 20, 8, 1, 1).data.slice(0, 3)]"""
    red, green, _ = page.js(pixel)
    check(green > red if first < 0 else red > green, f"less is green, more is red: {red}, {green}")
    page.keys(Keys.ENTER)
    check(page.one(".flame-view .bar button").is_displayed(), "Enter zooms")
    check(page.all(".detail .stack li"), "and shows a stack")
    page.keys(Keys.ESCAPE)
    for measure, total in [("before", totals[0]), ("after", totals[1])]:
        page.click(f".measures input[value={measure}] + span")
        check(f"As wide as {measure}" in page.text(".caption"), page.text(".caption"))
    page.click(".measures input[value=change] + span")


def changed_table(page, sites):
    """Largest changes first, noise last."""
    page.keys("4")
    rows = {}
    page.focus("#view-sites .grid")
    for key in [Keys.HOME] + [Keys.PAGE_DOWN] * 12 + [Keys.END]:
        page.keys(key)
        script = """return [...document.querySelectorAll('#view-sites .rows .row')].map((it) =>
            [Number(it.ariaRowIndex), it.classList.contains('quiet'), [...it.children].slice(1, 5).map((cell) => cell.textContent)])"""
        rows |= {row: (is_quiet, cells) for row, is_quiet, cells in page.js(script)}
    wanted = []
    for it in sites:
        numbers = [it["before"]["live_bytes"], it["after"]["live_bytes"]]
        blocks = it["change"]["live_blocks"]
        sign = "+" if blocks > 0 else "\u2212" if blocks < 0 else ""
        wanted.append((it["noise"], [*map(size, numbers), change(it["change"]["live_bytes"]), f"{sign}{abs(blocks):,}"]))
    found = [rows[row] for row in sorted(rows)]
    equal(len(found), len(wanted), "rows")
    # Sites that changed by as much may be in any order.
    equal([(quiet, cells[2]) for quiet, cells in found], [(quiet, cells[2]) for quiet, cells in wanted], "changes in order")
    equal(sorted(found), sorted(wanted), "their numbers")
    page.click("#view-sites [role=columnheader]:nth-child(2) button")
    equal(page.js("return document.querySelector('#view-sites [aria-sort]').textContent"), "Before", "what it is sorted by")


def changed_trees(page, totals):
    for view in ["tree", "callers"]:
        page.click(f"#tab-{view}")
        page.focus(f"#view-{view} .grid")
        page.keys(Keys.HOME)
        check(page.rows(view)[0][3][0] in "\u2212+", f"{view}: the first has changed: {page.rows(view)[0]}")
    tree = next(it for it in page.rows("tree") if it)
    equal(tree[1:4], [*map(size, totals), change(totals[1] - totals[0])], "all begin in one function")


def no_change(page):
    page.open()
    check("No site changed" in page.text(".headline"), page.text(".headline"))
    for view in ["tree", "callers", "sites", "flame"]:
        page.click(f"#tab-{view}")
    page.focus(".flame")
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ENTER, Keys.ESCAPE)
    page.keys("/")
    page.keys("main", Keys.ESCAPE)
    equal([it for it in page.rows("sites") if it[3] != "0 B"], [], "sites that changed")


def empty(page):
    """Cut off before its first interval: everything is there, and says so."""
    page.open()
    check("cut off before its first interval" in page.text(".headline"), page.text(".headline"))
    equal(page.text(".grade"), "F", "the grade")
    equal(page.text(".found-count"), "0 sites", "sites")
    for view in ["tree", "callers", "sites", "flame"]:
        page.click(f"#tab-{view}")
    page.focus(".flame")
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ENTER, Keys.ESCAPE)
    page.focus(".plot")
    page.keys(Keys.ARROW_RIGHT, Keys.ARROW_UP, Keys.ARROW_DOWN, Keys.HOME, Keys.END)
    drag(page, 0.2, 0.6)
    page.keys("/")
    page.keys("main", Keys.ESCAPE)


def large(page):
    page.open()
    print("20,000 sites:", page.js("return document.documentElement.dataset.ready"))
    sites = int(page.text(".found-count").split()[0].replace(",", ""))
    check(sites > 19_000, f"{sites} sites")
    check("grows by" in page.text(".headline"), page.text(".headline"))
    for view in ["tree", "callers", "sites"]:
        page.click(f"#tab-{view}")
        page.focus(f"#view-{view} .grid")
        page.keys(Keys.END)
        page.keys(Keys.HOME)
        check(len(page.all(f"#view-{view} .rows .row")) < 120, f"{view}: only rows in sight are elements")
    equal(int(page.one("#view-sites .grid").get_attribute("aria-rowcount")), sites + 1, "rows, and their head")
    drag(page, 0.4, 0.6)
    check(page.window() != [0.0, 300.0], "the window is brushed")
    elapsed = page.js(
        "const began = performance.now(); document.querySelector('.window button').click(); return performance.now() - began"
    )
    print(f"a new window takes {elapsed:.0f} ms")


CHECKS = {
    "use": use,
    "names": names,
    "policy": policy,
    "window": window,
    "crowd": crowd,
    "others": others,
    "comparison": comparison,
    "no_change": no_change,
    "empty": empty,
    "large": large,
}


def main():
    checks, path = sys.argv[1:]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        page = Page(path, profile)
        try:
            CHECKS[checks](page)
        except BaseException:
            page.driver.quit()
            raise
        if checks == "policy":
            page.driver.quit()
        else:
            page.close()


main()
