"""The HTML page: what is in it, and how it behaves in a real browser."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from chainrule.explain import explain
from chainrule.explain.language import Program

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def neuron():
    return explain(Program("(w*x + b - y)**2"), w=2.0, x=3.0, b=1.0, y=8.0)


def test_the_page_loads_nothing_from_anywhere(neuron):
    page = neuron.to("html")
    assert "default-src 'none'" in page
    assert not re.findall(
        r"""(?:src|href)\s*=|@import|url\((?!#)""", page.replace("img-src", "").replace("default-src", "")
    )
    namespaces = {"http://www.w3.org/1998/Math/MathML", "http://www.w3.org/2000/svg"}
    assert set(re.findall(r"https?://[\w./]+", page)) <= namespaces


def test_names_cannot_break_out_of_the_page():
    def f(p):
        return p["</script><b>"] * 2.0

    e = explain(f, {"</script><b>": 3.0})
    page = e.to("html")
    assert "&lt;/script&gt;&lt;b&gt;" in page
    assert "</script><b>" not in page
    assert page.count("</script>") == 2
    assert not re.search("[\ue000-\uf8ff]", page)
    ElementTree.fromstring(e.to("svg"))


def test_every_formula_is_typeset(neuron):
    page = neuron.to("html")
    assert page.count("<math") > 40
    assert "\\frac" not in page
    assert not re.search("[\ue000-\uf8ff]", page)


def test_a_notebook_shows_the_page(neuron):
    assert neuron._repr_html_().startswith("<iframe srcdoc=")


def test_the_picture_is_a_drawing_of_its_own(neuron):
    tree = ElementTree.fromstring(neuron.to("svg"))
    texts = ["".join(t.itertext()) for t in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"v1 = w·x", "v2 = v1 + b", "L = v3²", "6", "−6"} <= set(texts)
    nodes = [g for g in tree.iter("{http://www.w3.org/2000/svg}g") if g.get("class", "").startswith("node")]
    edges = [g for g in tree.iter("{http://www.w3.org/2000/svg}g") if g.get("class", "").startswith("edge")]
    assert (len(nodes), len(edges)) == (8, 7)


def test_edges_are_wider_where_more_gradient_comes_back():
    e = explain(lambda a, b: 1000.0 * a + b, a=1.0, b=1.0)
    widths = [float(w) for w in re.findall(r'class="back"[^>]*stroke-width="([\d.]+)"', e.to("svg"))]
    assert max(widths) > min(widths)


# In a browser ------------------------------------------------------------------------------------------------------

PRESS = """
<script>
const log = [];
const key = (name, target = document.body) =>
  target.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));
const state = () => ({
  count: document.getElementById("count").textContent,
  now: document.querySelector(".node.now").getAttribute("aria-label"),
  waiting: document.querySelectorAll(".node.waiting").length,
  returned: document.querySelectorAll(".node.returned").length,
  panel: document.getElementById("panel").textContent,
  blocked: [...document.querySelectorAll("button:disabled")].map((b) => b.id),
});
log.push(state());
for (const name of STEPS) {
  if (name.startsWith("#")) document.querySelector(name).click(); else key(name);
  log.push(state());
}
const box = document.querySelector(".node.result");
box.focus();
key("Enter", box);
log.push({ focused: document.activeElement === box, panel: document.getElementById("panel").textContent });
document.getElementById("theme").click();
log.push({ theme: document.documentElement.dataset.theme,
  paper: getComputedStyle(document.body).backgroundColor });
log.push({ overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  mathHeight: document.querySelector("mfrac").getBoundingClientRect().height,
  unlabelled: [...document.querySelectorAll("button, input, .node")].filter((b) =>
    !(b.getAttribute("aria-label") || b.labels?.length || b.textContent.trim())).length,
  small: [...document.querySelectorAll(".controls button")].filter((b) => b.offsetHeight < 40).length });
document.documentElement.innerHTML = "<pre id=log></pre>";
document.getElementById("log").textContent = JSON.stringify(log);
</script></body>
"""


def in_chromium(page, steps, tmp_path, width=900):
    file = tmp_path / "page.html"
    script = PRESS.replace("STEPS", json.dumps(steps))
    file.write_text(page.replace("</body>", script), encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000", "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    found = re.search(r'<pre id="?log"?>(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    import html

    return json.loads(html.unescape(found[1]))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_page_steps_forward_and_backward_by_keyboard_and_buttons(neuron, tmp_path):
    steps = ["ArrowRight"] * 8 + ["ArrowLeft", "End", "ArrowRight", "Home", "#next", "#last", "#previous", "#first"]
    log = in_chromium(neuron.to("html"), steps, tmp_path)
    *states, opened, theme, _ = log
    start, end, home = states[0], states[10], states[12]
    assert (start["count"], start["waiting"], start["blocked"]) == ("forward 1 of 8", 7, ["first", "previous"])
    assert [s["waiting"] for s in states[:8]] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert states[7]["count"] == "forward 8 of 8"
    assert states[8]["count"] == "backward 1 of 8"
    assert states[8]["returned"] == 1
    assert states[9]["count"] == "forward 8 of 8"
    assert (end["count"], end["returned"], end["blocked"]) == ("backward 8 of 8", 8, ["next", "last"])
    assert end["now"].startswith("w: 2, gradient −6")
    assert "−6" in end["panel"].replace("-", "−")
    assert states[11] == end  # there is nothing further
    assert home == start
    assert [s["count"] for s in states[13:]] == [
        "forward 2 of 8", "backward 8 of 8", "backward 7 of 8", "forward 1 of 8",
    ]  # fmt: skip
    assert opened["focused"]
    assert "copies" in opened["panel"] or "scales" in opened["panel"]
    assert theme["theme"] == "dark"
    assert theme["paper"] == "rgb(13, 17, 23)"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_page_fits_a_phone_and_everything_has_a_name(tmp_path):
    def loss(W1, b1, W2):
        z1 = W1 @ np.array([1.0, 2.0]) + b1
        h1 = np.tanh(z1)
        return ((W2 @ h1) ** 2).sum()

    e = explain(loss, W1=np.ones((2, 2)), b1=np.zeros(2), W2=np.ones((2, 2)))
    last = in_chromium(e.to("html"), ["End"], tmp_path, width=500)[-1]
    assert last["overflow"] <= 0
    assert last["unlabelled"] == 0
    assert last["small"] == 0
    assert last["mathHeight"] > 15
