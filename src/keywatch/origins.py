"""The public name of `keywatch.load.origins`: what GeoIP databases say of an address."""

from keywatch.load.origins import GeoIPPaths, OriginReader

__all__ = ["GeoIPPaths", "OriginReader"]
