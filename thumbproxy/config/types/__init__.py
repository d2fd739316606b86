"""Kinds of values that settings have besides those of options."""

from __future__ import annotations

from thumbproxy.config.types.cdns import CdnSetting, CdnTable
from thumbproxy.config.types.origins import FromEnvironment, OriginSetting, OriginTable
from thumbproxy.config.types.pictures import PresetTable, WatermarkSetting, WatermarkTable
from thumbproxy.config.types.quantities import Duration, Size
from thumbproxy.config.types.refusals import REFUSALS, Explained, Refusal
from thumbproxy.config.types.values import EXAMPLE_KEYS, Key, ListOf, Network, Switch, WebOrigins

__all__ = [
    "EXAMPLE_KEYS",
    "REFUSALS",
    "CdnSetting",
    "CdnTable",
    "Duration",
    "Explained",
    "FromEnvironment",
    "Key",
    "ListOf",
    "Network",
    "OriginSetting",
    "OriginTable",
    "PresetTable",
    "Refusal",
    "Size",
    "Switch",
    "WatermarkSetting",
    "WatermarkTable",
    "WebOrigins",
]
