"""Pictures of every page of the dashboard: `python -m benchmarks.dashboard_pictures docs/images --json`.

Light, dark and 390 pixels wide, of a synthetic pool. With `--axe`, the script of npm's axe-core, `serious_findings`
counts what it finds on them that is serious or critical.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks import browser
from benchmarks.dashboard_world import builder, details

PAGES = {
    "dashboard": "/",
    "deployment": "/deployment?name=" + quote("features/daily-002"),
    "dataset": "/dataset?name=scores",
    "pools": "/pools",
}
SCREENS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1400, "height": 900}},
    "dark": {"viewport": {"width": 1400, "height": 900}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 844}},
}
FINDINGS = (
    "axe.run(document).then((found) => found.violations.map((each) => [each.id, each.impact, each.nodes.length]))"
)


def main() -> None:
    """Take them and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--axe", type=Path, help="axe.min.js of npm's axe-core")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    executable = browser.find_chromium()
    if executable is None:
        raise SystemExit("no Chromium on this machine: apt-get install chromium")
    build = builder(time.time)
    build()
    build.wait()
    found: dict[str, Any] = {}
    with browser.serve(build, details=details(time.time), look_back=build.look_back) as (url, _):
        for screen, context in SCREENS.items():
            with browser.page(executable, bypass_csp=args.axe is not None, **context) as page:
                for name, path in PAGES.items():
                    page.goto(url + path)
                    page.wait_for_selector("section td")
                    page.screenshot(path=str(args.folder / f"{name}-{screen}.png"), full_page=True)
                    if args.axe is not None:
                        page.evaluate(args.axe.read_text("utf-8"))
                        found[f"{name}-{screen}"] = page.evaluate(FINDINGS)
    serious = [each for page in found.values() for each in page if each[1] in ("serious", "critical")]
    figures = {"serious_findings": len(serious)} if args.axe is not None else {}
    context = {"pictures": len(PAGES) * len(SCREENS), "findings": {name: each for name, each in found.items() if each}}
    print(json.dumps({"figures": figures, "context": context}) if args.json else f"{figures} {context}")


if __name__ == "__main__":
    main()
