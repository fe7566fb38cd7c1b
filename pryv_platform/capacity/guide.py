"""The design guide's worksheet and figures, and ours where it gives none."""

from __future__ import annotations

from dataclasses import dataclass

GUIDE = "Deployment Design Guide v6 (2018)"
CLUSTER_SIZING = f"{GUIDE}, Cluster Sizing Considerations"
OURS = "docs/capacity.md"


@dataclass(frozen=True)
class Field:
    """One line of the worksheet: where it stands in the requirements of a zone, and what may be written there."""

    path: str
    right: str
    minimum: int = 0
    default: int | None = None
    whole: bool = False
    above: bool = False  # the minimum itself is refused
    optional: bool = False


FIELDS = (
    Field("users", "the planned number of users, a whole number, 0 or more", whole=True),
    Field("safety_margin", "a factor for every demand, 1 or more", minimum=1, default=1),
    Field("users_growth_per_month", "the users gained each month, 0 or more", default=0),
    Field("users_leaving_per_month", "the users who leave each month and are replaced, 0 or more", default=0),
    Field("storage_mb_per_second", "MB/s that a core's data disk writes, more than 0", above=True, optional=True),
    Field("write.requests_per_second", "write requests/s of a user at most, 0 or more"),
    Field("write.attachments_mb_per_second", "MB/s of attachments that a user writes at most, 0 or more"),
    Field("write.data_points_per_day", "data points that a user writes each day, 0 or more"),
    Field("write.mb_per_day", "MB that a user writes each day, 0 or more"),
    Field("write.retention_years", "years that data is kept, 0 or more"),
    Field("read.requests_per_second", "read requests/s of a user at most, 0 or more"),
    Field("read.points_per_request", "data points that one request returns, 0 or more"),
    Field("read.attachments_per_second", "attachment reads/s of a user at most, 0 or more"),
    Field("read.previews_per_second", "image previews/s of a user at most, 0 or more"),
    Field("read.data_points_per_day", "data points that a user reads each day, 0 or more"),
    Field("read.mb_per_day", "MB that a user reads each day, 0 or more"),
)
PARTS = {
    part: tuple(field for field in FIELDS if field.path.rpartition(".")[0] == part) for part in ("", "write", "read")
}
LEAVES = {field.path: field.path.rpartition(".")[2] for field in FIELDS}


@dataclass(frozen=True)
class Metric:
    """A demand that one core meets up to a limit."""

    path: str
    limit: str
    label: str
    unit: str


METRICS = (
    Metric("users", "users", "Users", "users"),
    Metric("write.requests_per_second", "write_requests_per_second", "Write requests", "requests/s"),
    Metric("write.attachments_mb_per_second", "attachment_writes_share_of_storage", "Attachment writes", "MB/s"),
    Metric("read.requests_per_second", "read_requests_per_second", "Read requests", "requests/s"),
    Metric("read.attachments_per_second", "attachment_reads_per_second", "Attachment reads", "requests/s"),
    Metric("read.previews_per_second", "previews_per_second", "Image previews", "requests/s"),
)
USERS = METRICS[0]
ATTACHMENT_WRITES = METRICS[2]
REQUEST_RATES = ("write.requests_per_second", "read.requests_per_second", "read.attachments_per_second")
# What one core can do: the guide's "Max Performance of a Single Core". A core holds fewer users than `users`.
CORE_LIMITS: dict[str, int | float] = {
    "users": 10000,
    "write_requests_per_second": 2000,
    "read_requests_per_second": 2000,
    "attachment_reads_per_second": 600,
    "previews_per_second": 100,
    "attachment_writes_share_of_storage": 0.5,
}
# Where the guide says "increase" and gives no figure: our choices.
ASSUMPTIONS: dict[str, int | float] = {
    "disk_overhead": 1.5,
    "busy_core_share": 0.5,
    "previews_per_ram_gb": 50,
    "points_kept_per_ram_gb": 10_000_000_000,
    "registry_users_included": 100_000,
    "registry_users_per_ram_gb": 250_000,
    "registry_users_per_disk_gb": 100_000,
    "backup_daily_change": 0.01,
    "backup_keep_days": 35,
    "backup_disk_gb_per_ram_gb": 1000,
}
# The guide's "minimal requirement" by role.
MINIMUM = {
    "web": {"cpus": 1, "ram_gb": 1, "os_disk_gb": 15, "data_disk_gb": 0},
    "registry": {"cpus": 2, "ram_gb": 2, "os_disk_gb": 15, "data_disk_gb": 15},
    "core": {"cpus": 2, "ram_gb": 4, "os_disk_gb": 15, "data_disk_gb": 15},
}
# Ours, of the roles that the guide does not have.
OWN_MINIMUM = {
    "backup": {"cpus": 2, "ram_gb": 2, "os_disk_gb": 15, "data_disk_gb": 15},
    "monitoring": {"cpus": 1, "ram_gb": 2, "os_disk_gb": 15, "data_disk_gb": 15},
}
# What a host tells: series, how often, for how long it is kept; what a sample takes on disk and a series in RAM.
SERIES_PER_HOST, SCRAPE_SECONDS, METRICS_DAYS, BYTES_PER_SAMPLE, BYTES_PER_SERIES = 700, 15, 400, 2, 3_000
#: What a host's journal takes where it is kept, as role monitoring's monitoring_log_gb_per_host.
LOG_GB_PER_HOST = 4
PROMETHEUS = "Prometheus' documentation, Storage, Operational aspects; docs/capacity.md"
RESOURCES = {"cpus": "CPUs", "ram_gb": "GB of RAM", "os_disk_gb": "GB of OS disk", "data_disk_gb": "GB of data disk"}
BUSY_CPUS = 4
MANY_POINTS = 1000
MANY_USERS = 100_000
SCENARIOS = {
    "development": "Development Installation (single node)",
    "poc": "Proof of Concept Installation (one machine for each role)",
    "load": "Partitioning for Load",
    "privacy": "Partitioning for Privacy",
}
