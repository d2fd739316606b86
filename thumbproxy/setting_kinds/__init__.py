"""Kinds of values that settings have besides those of options."""

from __future__ import annotations

from thumbproxy.setting_kinds.cdns import CdnSetting, CdnTable
from thumbproxy.setting_kinds.origins import FromEnvironment, OriginSetting, OriginTable
from thumbproxy.setting_kinds.pictures import PresetTable, WatermarkSetting, WatermarkTable
from thumbproxy.setting_kinds.refusals import REFUSALS, Explained, Refusal
from thumbproxy.setting_kinds.values import EXAMPLE_KEYS, Key, ListOf, Network, Switch, WebOrigins

__all__ = [
    "EXAMPLE_KEYS",
    "REFUSALS",
    "CdnSetting",
    "CdnTable",
    "Explained",
    "FromEnvironment",
    "Key",
    "ListOf",
    "Network",
    "OriginSetting",
    "OriginTable",
    "PresetTable",
    "Refusal",
    "Switch",
    "WatermarkSetting",
    "WatermarkTable",
    "WebOrigins",
]
