"""Connect the sections: names that are referred to, templates that extend others, the records."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mscourse.cluster.remarks import Place, Remarks, did_you_mean
from mscourse.cluster.sections import Checked, Value
from mscourse.cluster.settings import AwsInfo, ClusterSettings, Config, GlobalSettings
from mscourse.cluster.table import AWS_INFO, CLUSTER, GLOBAL, SECTIONS

Sections = Mapping[tuple[str, str], Checked]


def resolve(path: Path, sections: Sections, remarks: Remarks) -> Config | None:
    """Make the configuration of its sections; None if there are errors."""
    _check_references(sections, remarks)
    clusters = [each for each in sections.values() if each.kind is CLUSTER]
    lines = {each.name: line for each in clusters if (line := _line(each, sections, remarks))}
    merged = {name: _merge(line) for name, line in lines.items()}
    for name, cluster in merged.items():
        _check_cluster(cluster, lines[name], sections, remarks)
    if not clusters:
        remarks.warn(Place(path, 1), "There is no section [cluster NAME], so nothing to start.")
    return None if remarks.errors else _config(path, sections, merged, remarks)


def _named(value: Value) -> tuple[str, ...]:
    """The names of sections in a value."""
    if value.value is None:
        return ()
    return value.value if isinstance(value.value, tuple) else (value.value,)


def _check_references(sections: Sections, remarks: Remarks) -> None:
    for value in chain.from_iterable(each.values.values() for each in sections.values()):
        kind = value.setting.refers_to
        if kind is None:
            continue
        there = [name for other, name in sections if other == kind]
        for name in _named(value):
            if name not in there:
                remarks.error(
                    value.place,
                    f"{value.setting.name}: there is no [{kind} {name}]."
                    f"{did_you_mean(name, there)} There are: {', '.join(there) or 'none'}",
                )


def _line(cluster: Checked, sections: Sections, remarks: Remarks) -> list[Checked] | None:
    """A template and all that it extends, the nearest first; None if that has no end."""
    line = [cluster]
    while "EXTENDS" in line[-1].values and (extended := line[-1].values["EXTENDS"].value):
        parent = sections.get(("cluster", extended))
        if parent is None:
            break  # said already
        if parent in line:
            # Of the members of a circle, the first one of the file tells.
            circle = line[line.index(parent) :]
            if cluster is next(each for each in sections.values() if each in circle):
                names = " -> ".join(each.name for each in [*circle, parent])
                place = cluster.values["EXTENDS"].place
                remarks.error(place, f"EXTENDS goes round in a circle: {names}")
            return None
        line.append(parent)
    return line


def _merge(line: list[Checked]) -> Checked:
    """Put a template and what it extends together."""
    merged = Checked(CLUSTER, line[0].name, line[0].place)
    for each in reversed(line):
        merged.values.update(each.values)
        merged.given.update(each.given)
    return merged


def _check_cluster(
    cluster: Checked, line: list[Checked], sections: Sections, remarks: Remarks
) -> None:
    """Check a whole template: what is missing, and what does not go together."""
    if "PROVIDER" in cluster.given - cluster.values.keys():
        return  # it was wrong: there is no telling what is needed
    provider = cluster.get("PROVIDER")
    for value in line[0].values.values():
        if value.setting.only not in (None, provider):
            remarks.error(
                value.place,
                f"{value.setting.name} means something with PROVIDER = {value.setting.only} only, "
                f"and {cluster.title} has {provider}.",
            )
    for setting in CLUSTER.settings:
        value_or_none = cluster.values.get(setting.name)
        is_missing = setting.name not in cluster.given
        is_empty = value_or_none is not None and value_or_none.value in (None, ())
        if setting.required == provider and (is_missing or is_empty):
            remarks.error(
                value_or_none.place if value_or_none else cluster.place,
                f"{cluster.title} needs {setting.name}: {setting.kind.allowed}",
            )
    if provider == "ec2":
        _check_region(cluster, line, sections, remarks)
        _check_mounts(cluster, sections, remarks)
    elif cluster.values.keys() >= {"HOSTS", "CLUSTER_SIZE"}:
        n_hosts, size = len(cluster.get("HOSTS")), cluster.values["CLUSTER_SIZE"]
        if size.value > n_hosts:
            remarks.error(
                size.place,
                f"CLUSTER_SIZE is {size.value}, but {cluster.title} has {n_hosts} in HOSTS. Leave "
                "it out to use them all.",
            )


def _check_region(
    cluster: Checked, line: list[Checked], sections: Sections, remarks: Remarks
) -> None:
    """An image and a zone are of one region; a wrong pair would fail only at EC2."""
    region = cluster.values.get("REGION")
    name = _region(cluster, sections)
    image = cluster.values.get("NODE_IMAGE_ID")
    if image is not None and image.value is None:
        image = None  # the current Ubuntu, which every region has
    if image is not None and "REGION" not in cluster.given:
        if name is None:
            remarks.error(
                image.place, "NODE_IMAGE_ID needs REGION beside it: an image is of one region."
            )
    elif image is not None and region is not None:
        owner = next(each for each in line if image in each.values.values())
        nearer = line[: line.index(owner)]
        if any(region in each.values.values() for each in nearer):
            remarks.error(
                region.place,
                f"REGION is set anew, but NODE_IMAGE_ID is still that of {owner.title}, and an "
                "image is of one region. Set NODE_IMAGE_ID too; none is the current Ubuntu.",
            )
    zones = cluster.values.get("AVAILABILITY_ZONES")
    for zone in zones.value if zones is not None and name is not None else ():
        if zone[:-1] != name:
            remarks.error(
                zones.place if zones else cluster.place,
                f"AVAILABILITY_ZONES has {zone}, which is not in the region {name}.",
            )


def _region(cluster: Checked, sections: Sections) -> str | None:
    aws = sections.get((AWS_INFO.name, ""))
    default: str | None = aws.get("AWS_REGION_NAME") if aws else None
    return cluster.get("REGION") or default


def _check_mounts(cluster: Checked, sections: Sections, remarks: Remarks) -> None:
    value = cluster.values.get("VOLUMES")
    seen: dict[str, str] = {}
    for name in _named(value) if value else ():
        volume = sections.get(("volume", name))
        if value is None or volume is None or "MOUNT_PATH" not in volume.values:
            continue
        mount_path = volume.get("MOUNT_PATH")
        if mount_path in seen:
            remarks.error(
                value.place,
                f"VOLUMES has {seen[mount_path]} and {name}, both with MOUNT_PATH = {mount_path}.",
            )
        seen[mount_path] = name


def _config(
    path: Path, sections: Sections, merged: Mapping[str, Checked], remarks: Remarks
) -> Config:
    records: dict[str, dict[str, Any]] = {kind: {} for kind in SECTIONS}
    for (kind, name), each in sections.items():
        if kind != CLUSTER.name:
            records[kind][name] = each.record()
    templates = {name: _template(each, sections, records) for name, each in merged.items()}
    return Config(
        path,
        records[GLOBAL.name].get("", GlobalSettings()),
        records[AWS_INFO.name].get("", AwsInfo()),
        MappingProxyType(templates),
        keys=MappingProxyType(records["key"]),
        volumes=MappingProxyType(records["volume"]),
        permissions=MappingProxyType(records["permission"]),
        plugins=MappingProxyType(records["plugin"]),
        warnings=remarks.warnings,
    )


def _template(
    cluster: Checked, sections: Sections, records: Mapping[str, Mapping[str, Any]]
) -> ClusterSettings:
    provider = cluster.get("PROVIDER")
    plugins = [records["plugin"][name] for name in cluster.get("PLUGINS") or ()]
    packages = [*(cluster.get("PACKAGES") or ())]
    for plugin in plugins:
        packages += plugin.packages
    engines = cluster.get("ENGINES_PER_NODE")
    if "ENGINES_PER_NODE" not in cluster.given:
        engines = next((each.node_engines for each in plugins if each.node_engines), None)
    values = {
        each.setting.attribute: each.value
        for each in cluster.values.values()
        if each.setting.only in (None, provider) and each.setting.name not in ("EXTENDS", "PLUGINS")
    }
    values |= {"packages": tuple(dict.fromkeys(packages)), "engines_per_node": engines}
    if values.get("key") is not None:
        values["key"] = records["key"][values["key"]]
    for name in ("volume", "permission"):
        values[f"{name}s"] = tuple(records[name][each] for each in values.get(f"{name}s", ()))
    if provider == "ssh":
        values.setdefault("cluster_size", len(values["hosts"]))
    else:
        values["region"] = _region(cluster, sections)
    return ClusterSettings(cluster.name, **values)
