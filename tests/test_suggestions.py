"""A name that is misspelled is told with what was probably meant, wherever it is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import servers
from click.testing import CliRunner

from thumbproxy import Options, Thumbnails
from thumbproxy.assembly.factories import engine_of
from thumbproxy.cli import main
from thumbproxy.config.settings import Settings
from thumbproxy.core.limits import Limits

KEY = servers.KEY
CARD = {"card": "w_400,h_300,fit_cover"}
THUMBS = Thumbnails([KEY], presets=CARD)


@pytest.mark.parametrize(
    ("misspelled", "meant"),
    [
        (lambda: THUMBS.url("a.jpg", widht=400), "There is no option 'widht'; did you mean width?"),
        (lambda: THUMBS.url("a.jpg", formt="jpg"), "'formt'; did you mean format?"),
        (lambda: THUMBS.url("a.jpg", w=400), "There is no option 'w'; here it is 'width'."),
        (lambda: THUMBS.url("a.jpg", "crad"), "There is no preset 'crad'; did you mean card?"),
        (lambda: THUMBS.picture("a.jpg", "Card", widths=[9]), "'Card'; did you mean card?"),
        (lambda: THUMBS.srcset("a.jpg", widths=[9], qualty=5), "did you mean quality?"),
        (lambda: THUMBS.url("a.jpg", format="JPEG"), "no format 'JPEG'; did you mean jpg?"),
        (lambda: THUMBS.url("a.jpg", format="wepb"), "no format 'wepb'; did you mean webp?"),
        (lambda: THUMBS.url("a.jpg", format=5), "There is no format 5. Formats are: jpg"),
        (lambda: Options.read("contarst_5"), "no option 'contarst'; did you mean contrast?"),
        (lambda: Options.read("width_5"), "it is written 'w'"),
        (lambda: Options.read("widht_5"), "did you mean width, which is written 'w'?"),
        (lambda: Options.read("x_5"), "There is no option 'x'. Options are: crop, trim, w"),
        (lambda: Thumbnails([KEY], presets={"card": {"widht": 5}}), "did you mean width?"),
        (lambda: Settings(keys=[KEY], presets={"card": "blurr_5"}), "did you mean blur?"),
        (lambda: Settings(keys=[KEY], presets={"card": "wm_lgoo"},
                          watermarks={"logo": {"image": "/x"}}),
         "there is no watermark 'lgoo'; did you mean logo?"),
        (lambda: engine_of(Settings(keys=[KEY], exif_fields=["Mkae"]), Limits()),
         "there is no EXIF field 'Mkae'; did you mean Make?"),
    ],
)  # fmt: skip
def test_in_python(misspelled: Callable[[], Any], meant: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)there is") as refused:
        misspelled()
    assert meant in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ("serv", "No such command 'serv'. Did you mean 'serve'?"),
        ("cache stat", "No such command 'stat'. Did you mean 'stats'?"),
        ("sign a.jpg --fromat webp", "No such option '--fromat'. Did you mean '--format'?"),
        ("serve --threds 5", "No such option '--threds'. Did you mean '--threads'?"),
        ("sign a.jpg --format wepb", "There is no format 'wepb'; did you mean webp?"),
        ("sign a.jpg contarst_5", "There is no option 'contarst'; did you mean contrast?"),
        ("sign a.jpg --preset crad", "There is no preset 'crad'; did you mean card?"),
        ("warm a.jpg --preset crad", "There is no preset 'crad'; did you mean card?"),
        ("warm a.jpg --origin / --format wepb", "There is no format 'wepb'; did you mean webp?"),
        ("warm a.jpg --options contarst_5", "no option 'contarst'; did you mean contrast?"),
    ],
)
def test_on_the_command_line(arguments: str, meant: str, tmp_path: Path) -> None:
    config = tmp_path / "thumbproxy.toml"
    config.write_text(f'keys = ["{KEY}"]\n[presets]\ncard = "w_400,h_300,fit_cover"\n')
    done = CliRunner().invoke(main, arguments.split(), env={"THUMBPROXY_CONFIG": str(config)})
    assert done.exit_code == 2, done.output
    assert meant in " ".join(done.output.split())
