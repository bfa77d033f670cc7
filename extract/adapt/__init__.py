"""Adapting a backbone to one's own pictures, with folds that are respected."""

from headstock.extract.adapt.report import Adapted
from headstock.extract.adapt.run import adapt
from headstock.extract.adapt.settings import Settings

__all__ = ["Adapted", "Settings", "adapt"]
