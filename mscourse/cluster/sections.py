"""Check sections one by one against the table of settings, and make values of their texts."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mscourse.cluster import obsolete
from mscourse.cluster.inifile import Entry, Section
from mscourse.cluster.remarks import Place, Remarks, did_you_mean, nearest, quoted
from mscourse.cluster.schema import SectionKind, Setting
from mscourse.cluster.settings import Secret
from mscourse.cluster.table import REGIONS, SECTIONS
from mscourse.cluster.values import Kind, Name, SecretText

# A network with a shorter prefix is hardly that of a house, a school or a company.
_SHORTEST_PREFIX = 8


@dataclass(frozen=True)
class Value:
    """What a setting is set to. It may be a secret, so that it is not in the representation."""

    value: Any = field(repr=False)
    setting: Setting
    place: Place


@dataclass
class Checked:
    """A section whose settings have been read.

    Attributes
    ----------
    kind : SectionKind
    name : str
        Empty if there is only one of this kind.
    place : Place
        Its first line.
    values : dict of str to Value
        By the name of the setting. What was wrong is missing.
    given : set of str
        Names of all settings that are there, the wrong ones included.
    extra : dict of str to Any
        What the settings of a plugin say, by attribute.
    """

    kind: SectionKind
    name: str
    place: Place
    values: dict[str, Value] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """How it is written."""
        return f"[{self.kind.name} {self.name}]" if self.kind.is_named else f"[{self.kind.name}]"

    def get(self, name: str) -> Any:
        """The value of a setting, or the default."""
        if name in self.values:
            return self.values[name].value
        return self.kind.default(next(each for each in self.kind.settings if each.name == name))

    def record(self, **changes: Any) -> Any:
        """Make the record of the section."""
        named = {"name": self.name} if self.kind.is_named else {}
        given = {each.setting.attribute: each.value for each in self.values.values()}
        return self.kind.record(**(named | given | self.extra | changes))


def identify(section: Section, remarks: Remarks) -> tuple[SectionKind, str] | None:
    """Tell the kind of a section and its name; None, and an error, if there is no such kind."""
    title = section.title.lower()
    if title in SECTIONS and not SECTIONS[title].is_named:
        return SECTIONS[title], ""
    first, _, name = section.title.partition(" ")
    kind = SECTIONS.get(first.lower())
    forms = {each.name: each.form for each in SECTIONS.values()}
    if kind is None:
        begins = (each for each in forms if title and each.split()[0] == title)
        meant = next(begins, None) or nearest(title, forms) or nearest(first, forms)
        remarks.error(
            section.place,
            f"There is no section {quoted(section.title)}."
            + (f" Did you mean {forms[meant]}?" if meant else "")
            + f" There are: {', '.join(forms.values())}",
        )
    elif not kind.is_named:
        remarks.error(section.place, f"The section {kind.form} has no name.")
    elif not name:
        remarks.error(section.place, f"The section needs a name: {kind.form}")
    else:
        try:
            Name(kind.name).read(name, section.place.path.parent)
        except ValueError as error:
            remarks.error(section.place, f"NAME in {kind.form} {error}")
        return kind, name
    return None


def check_section(section: Section, kind: SectionKind, name: str, remarks: Remarks) -> Checked:
    """Read the settings of a section. What is wrong with each is added to the remarks."""
    checked = Checked(kind, name, section.place)
    if kind.name == "plugin":
        _check_plugin(section, checked, remarks)
    else:
        settings = {each.name: each for each in kind.settings}
        gone = obsolete.SETTINGS.get(kind.name, {})
        for entry in section.entries.values():
            official = obsolete.ALIASES.get(entry.name, entry.name)
            if official in checked.given:
                remarks.error(entry.place, f"{official} is there already, by another name.")
            elif official in settings:
                _take(settings[official], entry, checked, remarks)
            elif entry.name in gone:
                remarks.warn(entry.place, f"{entry.name} is obsolete: {gone[entry.name]}.")
            else:
                _unknown(entry, checked, settings, gone, remarks)
    for setting in kind.settings:
        if setting.required == "always" and setting.name not in checked.given:
            remarks.error(
                section.place, f"{checked.title} needs {setting.name}: {setting.kind.allowed}"
            )
    _check_together(checked, remarks)
    return checked


def holds_secret(entry: Entry) -> bool:
    """Whether the value of a setting is nobody's business."""
    settings = (each for kind in SECTIONS.values() for each in kind.settings)
    return entry.value != "" and (
        entry.name in obsolete.SECRET_SETTINGS
        or any(each.name == entry.name and isinstance(each.kind, SecretText) for each in settings)
    )


def _unknown(
    entry: Entry,
    checked: Checked,
    settings: Iterable[str],
    gone: Iterable[str],
    remarks: Remarks,
) -> None:
    elsewhere = [
        each.form
        for each in SECTIONS.values()
        if entry.name in (setting.name for setting in each.settings)
    ]
    hint = did_you_mean(entry.name, [*settings, *gone])
    if elsewhere:
        hint = f" It belongs in {elsewhere[0]}."
    remarks.error(
        entry.place,
        f"{checked.title} has no setting {entry.shown_name}.{hint} It can have: "
        + ", ".join(settings),
    )


def _take(setting: Setting, entry: Entry, checked: Checked, remarks: Remarks) -> None:
    """Read the value of a setting that exists."""
    checked.given.add(setting.name)
    default = checked.kind.default(setting)
    value: Any
    if entry.value.lower() == "none" and default in (None, ()) and setting.required != "always":
        value = default  # takes back what a template has from the one that it extends
    elif not entry.value and default == ():
        value = ()
    else:
        try:
            value = _read(setting.kind, entry)
        except ValueError as error:
            remarks.error(entry.place, f"{entry.name} {error}")
            return
    value = _modern(setting, entry, value, remarks)
    checked.values[setting.name] = Value(value, setting, entry.place)


def _read(kind: Kind, entry: Entry) -> Any:
    if entry.value:
        return kind.read(entry.value, entry.place.path.parent)
    raise ValueError(f"is empty: it must be {kind.allowed}; or remove the line.")


def _modern(setting: Setting, entry: Entry, value: Any, remarks: Remarks) -> Any:
    """Replace what is obsolete, and warn of that and of what is likely to be wrong."""
    name = setting.name
    if name in ("NODE_INSTANCE_TYPE", "MASTER_INSTANCE_TYPE") and value is not None:
        types = value if isinstance(value, tuple) else (value,)
        for old in types:
            if old in obsolete.INSTANCE_TYPES:
                modern = obsolete.INSTANCE_TYPES[old]
                remarks.warn(entry.place, f"{old} is obsolete: {modern} is used instead.")
        types = tuple(dict.fromkeys(obsolete.INSTANCE_TYPES.get(old, old) for old in types))
        return types if isinstance(value, tuple) else types[0]
    if name == "NODE_IMAGE_ID" and value in obsolete.IMAGES:
        remarks.warn(
            entry.place,
            f"{value} is obsolete: that Ubuntu is too old for today's machines and Python. The "
            "current Ubuntu is used instead.",
        )
        return None
    if name == "NODE_IMAGE_ID" and value and len(value) == obsolete.SHORT_IMAGE_ID_LETTERS:
        remarks.warn(
            entry.place,
            f"{value} has an id of the form that was used until 2018: so old an image may not "
            f"start. Leave {name} out for the current Ubuntu.",
        )
    if name in ("REGION", "AWS_REGION_NAME") and value and value not in REGIONS:
        remarks.warn(
            entry.place,
            f"{name} is {value}, a region that is not known here.{did_you_mean(value, REGIONS)}",
        )
    if name == "KEY_LOCATION" and _others_can_read(value):
        remarks.warn(
            entry.place, f"Others can read the key, so that ssh refuses it: chmod 600 {value}"
        )
    return value


def _others_can_read(path: Path) -> bool:
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    except OSError:
        return False  # a key that is not there yet will be made, or missed when it is used


def _check_plugin(section: Section, checked: Checked, remarks: Remarks) -> None:
    """Name what takes the place of a plugin, and keep the settings that still mean something."""
    setup_class = section.entries.get("SETUP_CLASS")
    if setup_class is None:
        return
    _take(checked.kind.settings[0], setup_class, checked, remarks)
    if "SETUP_CLASS" not in checked.values:
        return
    plugin = obsolete.PLUGINS.get(setup_class.value)
    if plugin is None:
        remarks.error(
            setup_class.place,
            f"SETUP_CLASS names {quoted(setup_class.value)}, which is no plugin that is known "
            f"here; plugins of your own do not run."
            f"{did_you_mean(setup_class.value, obsolete.PLUGINS)} "
            f"Known are: {', '.join(sorted(obsolete.PLUGINS))}",
        )
        return
    remarks.warn(setup_class.place, f"{setup_class.value} is obsolete: {plugin.instead}.")
    for entry in section.entries.values():
        if entry.name in plugin.settings:
            try:
                checked.extra[entry.name.lower()] = _read(plugin.settings[entry.name], entry)
            except ValueError as error:
                remarks.error(entry.place, f"{entry.name} {error}")
        elif entry.name in plugin.gone:
            remarks.warn(entry.place, f"{entry.name} is obsolete: {plugin.gone[entry.name]}.")
        elif entry is not setup_class and not plugin.takes_any:
            known = ["SETUP_CLASS", *plugin.settings]
            _unknown(entry, checked, known, plugin.gone, remarks)


def _check_together(checked: Checked, remarks: Remarks) -> None:
    """Check the settings of a section against each other."""
    values, given = checked.values, checked.given
    if checked.kind.name == "aws info":
        pair = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
        there = [each for each in values.values() if isinstance(each.value, Secret)]
        for missing in sorted(pair - given if there else ()):
            remarks.error(there[0].place, f"{there[0].setting.name} is of no use without {missing}")
        if there and "AWS_PROFILE" in given:
            remarks.error(there[0].place, "Give AWS_PROFILE or keys, not both.")
        if there:
            remarks.warn(
                there[0].place,
                "A file is no place for credentials. Keep them where `aws configure` puts them, "
                "and name the profile in AWS_PROFILE if it is not the default.",
            )
    elif checked.kind.name == "volume":
        if len({"VOLUME_ID", "SIZE_GB"} & given) != 1:
            remarks.error(
                checked.place,
                f"{checked.title} needs either VOLUME_ID, for a volume that is there, or SIZE_GB, "
                "for one to be made.",
            )
    elif checked.kind.name == "permission" and {"FROM_PORT", "TO_PORT"} <= values.keys():
        _check_permission(checked, remarks)


def _check_permission(checked: Checked, remarks: Remarks) -> None:
    low, high, network = (checked.get(name) for name in ("FROM_PORT", "TO_PORT", "CIDR_IP"))
    if checked.get("IP_PROTOCOL") != "icmp" and not 0 <= low <= high:
        remarks.error(
            checked.values["TO_PORT"].place,
            f"FROM_PORT and TO_PORT must be ports from 0 to 65535, the lower one first, not {low} "
            f"and {high}.",
        )
    if network is not None and network.prefixlen < _SHORTEST_PREFIX:
        who = "THE WHOLE WORLD" if network.prefixlen == 0 else f"{network.num_addresses} addresses"
        remarks.warn(
            checked.values["CIDR_IP"].place,
            f"DANGER: {checked.title} opens the ports {low} to {high} to {who}. Whoever finds a "
            "notebook or an engine there runs programs on your account. Leave CIDR_IP out to open "
            "them to your own address only.",
        )
