"""What people read: a proposal as a table for the terminal, and as a page with pictures, a map and a curve."""

from firstpick.report.gather import MAX_PICTURES, page_data
from firstpick.report.page import ASSETS, LIVE_POLICY, asset, live_page, report_page
from firstpick.report.pool_map import Drawing, Point, lookalikes, pool_map
from firstpick.report.table import table

__all__ = [
    "ASSETS",
    "LIVE_POLICY",
    "MAX_PICTURES",
    "Drawing",
    "Point",
    "asset",
    "live_page",
    "lookalikes",
    "page_data",
    "pool_map",
    "report_page",
    "table",
]
