"""Jobs: what clients ask for, what workers do, what the reaper repairs.

    queued ──take_lease──▶ running ──succeed──▶ succeeded
      ▲  │                  │  │ └──fail──────▶ failed ◀──reap (too many attempts without a new checkpoint)
      │  └─request_cancel───┼──┼──cancelled───▶ cancelled
      └──release, reap──────┘  └─request_cancel sets a flag

The last three are terminal and never change. A lease is (owner, fence): taking it raises the fence, and every write
of a worker asks the row whether the fence is still its own. A cancel that was accepted is binding: however a worker
then ends or hands back the job, it ends cancelled.
"""

from service.store.jobs.client import (
    count_waiting,
    create,
    get,
    heads,
    list_,
    mark_published,
    request_cancel,
    retry,
)
from service.store.jobs.ending import abandon, cancelled, fail, release, succeed
from service.store.jobs.leasing import heartbeat, take_lease
from service.store.jobs.reaping import Publication, Reaped, reap
from service.store.jobs.values import STATES, TERMINAL, Head, HeartbeatAnswer, Job, Lease
from service.store.jobs.working import (
    add_checkpoint,
    add_events,
    add_warning,
    checkpoint_bytes,
    set_resolved,
)

__all__ = [
    "STATES",
    "TERMINAL",
    "Head",
    "HeartbeatAnswer",
    "Job",
    "Lease",
    "Publication",
    "Reaped",
    "abandon",
    "add_checkpoint",
    "add_events",
    "add_warning",
    "cancelled",
    "checkpoint_bytes",
    "count_waiting",
    "create",
    "fail",
    "get",
    "heads",
    "heartbeat",
    "list_",
    "mark_published",
    "reap",
    "release",
    "request_cancel",
    "retry",
    "set_resolved",
    "succeed",
    "take_lease",
]
