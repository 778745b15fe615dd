"""Keep the data of each version, and hold the changelog to what changed since.

When a version is released, `freeze` writes its data to `taxonomy/releases/VERSION.json`. From then on `validate` holds the
next section of the changelog to these files. A file beside the data was chosen over a tag of git, because it is there in
every copy: in an archive, in a shallow clone, in a wheel.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from .diff import KINDS, RELEASES, changes, least, level_of, read_version
from .load import CHANGELOG, DATA, numbers, versions_in


def freeze(root: str | Path) -> Path:
    """Write the data under `root` to `taxonomy/releases/VERSION.json`; a released version never changes.

    Returns the file. Raises FileExistsError when this version was released with other data, and what `read_version` raises.
    """
    root = Path(root)
    data = read_version(root / DATA)
    path = root / RELEASES / f"{data['scheme']['version']}.json"
    text = _as_text(data)
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise FileExistsError(f"{path} is released, and the data differ from it. Raise scheme.version first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def _as_text(data: dict) -> str:
    """JSON with one node or work to a line, so that the file is small and a change of it can be read."""
    def listed(entries) -> str:
        return "[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n]"
    parts = [f"{json.dumps(name)}: {listed(value) if isinstance(value, list) else json.dumps(value, ensure_ascii=False)}"
             for name, value in data.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def agrees_with_releases(root: str | Path, changelog: str) -> Iterator[str]:
    """Every version in the changelog but the newest has its file; the newest section says all that changed since the last;
    its number is high enough; and what is released stays as it is.

    "Wording only" lines of the section say which new definitions mean the same as before; a person writes or removes them.
    """
    root, data = Path(root), read_version(Path(root) / DATA)
    now = data["scheme"]["version"]
    folder = root / RELEASES
    if not folder.is_dir():
        return            # before the first release there is nothing to hold on to
    for version in versions_in(changelog):
        if version != now and not (folder / f"{version}.json").is_file():
            yield (f"{RELEASES / version}.json is missing, though {version} is in the changelog. "
                   "Check that version out and run `mini-lib taxonomy release` there.")
    if (folder / f"{now}.json").is_file():
        if read_version(folder / f"{now}.json") != data:
            yield f"{RELEASES / now}.json: {now} is released, and the data differ from it. Raise scheme.version."
        return
    names = [path.stem for path in folder.glob("*.json") if re.fullmatch(r"\d{1,4}(\.\d{1,4}){2}", path.stem)]
    last = max(names, key=numbers, default=None)
    if last is None:
        return
    section = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:2] or [""]
    lines = {" ".join(line.split()) for line in section[0].splitlines()}
    wording = re.findall(r"MX-[0-9]{4}", " ".join(line for line in lines if line.startswith(f"- {KINDS['wording'][0]}:")))
    found = changes(read_version(folder / f"{last}.json"), data, tuple(wording))
    fix = f"Run `mini-lib taxonomy diff {RELEASES / last}.json taxonomy` and paste what it prints."
    for change in found:
        if " ".join(str(change).split()) not in lines:
            yield f"{CHANGELOG}: the section on {now} lacks the line {str(change)!r}. {fix}"
    wanted = least(last, level_of(found))
    if numbers(now) < numbers(wanted):
        wording = ", or say in the changelog which definitions are wording only" if level_of(found) == "MAJOR" else ""
        yield (f"scheme.version is {now}, but the changes since {last} ask for {level_of(found)}. "
               f"Make it {wanted} or higher{wording}.")
