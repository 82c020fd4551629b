"""The layouts by name."""

from __future__ import annotations

from .comma2k19 import COMMA2K19
from .drive import Layout
from .folder import FOLDER
from .kitti import KITTI

LAYOUTS: dict[str, Layout] = {"kitti": KITTI, "comma2k19": COMMA2K19, "folder": FOLDER}
