"""Which item a segmentation, dose or map belongs to: by the series and instances it names, else by its space."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from imaging.staging.radiology.headers import InstanceHeader
from imaging.staging.radiology.volume import Volume


@dataclass(slots=True)
class StagedVolumes:
    """Volumes of images by what a derived object can name.  ``path``: of the item that a volume becomes."""

    volumes: dict[str, Volume] = field(default_factory=dict)
    _by_series: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    _by_space: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, patient: str, path: str, volume: Volume) -> None:
        self.volumes[path] = volume
        self._by_series[(patient, volume.header.series)].append(path)
        if volume.geometry is not None and volume.header.frame_of_reference:
            self._by_space[(patient, volume.header.frame_of_reference)].append(path)

    def made_of(self, patient: str, header: InstanceHeader) -> list[str]:
        """Items of the series and instances that a derived object names, those it names most first."""
        wanted = set(header.source_instances)
        candidates = [
            path
            for series in dict.fromkeys(header.source_series)
            for path in self._by_series.get((patient, series), ())
        ]
        if wanted:
            if not candidates:
                candidates = [
                    path
                    for (owner, _), paths in self._by_series.items()
                    if owner == patient
                    for path in paths
                ]
            counts = Counter(
                {
                    path: len(
                        {one.instance.header.sop_instance for one in self.volumes[path].all_slices()} & wanted
                    )
                    for path in candidates
                }
            )
            named = [
                path for path, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])) if count
            ]
            if named:
                return named
            return candidates if header.source_series else []
        return candidates

    def in_space(self, patient: str, header: InstanceHeader) -> list[str]:
        """Tomographic items with the same frame of reference, CT and large ones first."""
        paths = (
            self._by_space.get((patient, header.frame_of_reference), []) if header.frame_of_reference else []
        )
        return sorted(
            (path for path in paths if self.volumes[path].nature == "tomographic"),
            key=lambda path: (
                self.volumes[path].header.modality != "CT",
                -len(self.volumes[path].slices[0]),
                path,
            ),
        )
