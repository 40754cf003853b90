// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-ng: commands on queue pairs that polled rings own.
 *
 * A ring that polls gets a queue pair of the controller for itself, as long as
 * there are any, and its commands with data in regions need no request: a
 * command is written to the submission queue where it is issued, and completed
 * where the ring polls.  Both happen under the ring's uring_lock; the lock of
 * the queue is for those who come from elsewhere: reset, timeout, removal.
 *
 * What blk-mq does for its requests is kept:
 *  - freeze, removal of a namespace: commands in flight hold a reference to the
 *    namespace's request queue, and once that is being frozen new ones take the
 *    way through blk-mq, which waits;
 *  - timeout, abort: nvme_ng_tick();
 *  - reset: the transport stops the queue, cancels what is in flight and starts
 *    it again.
 */
#include <linux/blk-mq.h>
#include <linux/sched/signal.h>
#include "region.h"
#include "ng-queue.h"

/*
 * jiffies between two looks at what is in flight.  A completion that is found
 * twice is completed: nobody waits for a ring for longer than 100 ms.
 */
#define NVME_NG_TICK	(HZ / 25)

/* jiffies between two looks at the deadlines */
#define NVME_NG_CLOCK	HZ

/* &nvme_ng_queue.seen if the queue was empty */
#define NVME_NG_EMPTY	U32_MAX

/* leaves 4 bits of an identifier for its generation */
#define NVME_NG_MAX_DEPTH	4096

/* &nvme_ng_slot.abort */
enum {
	NVME_NG_NO_ABORT,
	NVME_NG_ABORTING,	/* Abort is in flight */
	NVME_NG_ABORTED,	/* it has completed */
};

/**
 * struct nvme_ng_slot - a command in flight
 * @ioucmd: the command, NULL if there is none
 * @path: from where it came
 * @deadline: jiffies at which it is aborted
 * @timeout: jiffies from start to @deadline
 * @cid: Command Identifier, whose lower bits are the index of the slot
 * @abort: NVME_NG_ABORT*; a command that was aborted gets as much time again.
 *	Written without the lock when Abort completes
 * @held: the command has ended, Abort has not: the slot is not free yet
 */
struct nvme_ng_slot {
	struct io_uring_cmd	*ioucmd;
	struct nvme_ng_path	*path;
	unsigned long		deadline;
	u32			timeout;
	u16			cid;
	u8			abort;
	bool			held;
};

/**
 * struct nvme_ng_queue - a queue pair without requests
 * @lock: protects what changes, but for @users
 * @live: the controller takes commands
 * @plugged: the submission doorbell is rung when a plug is flushed
 * @ticking: @tick is scheduled
 * @phase: of the next completion
 * @sq_tail: where the next command goes
 * @sq_rung: as the controller knows it
 * @cq_head: where the next completion comes
 * @cid_mask: lower bits of an identifier: index of the slot; those above are
 *	its generation
 * @free_head: where the next identifier is taken from @free
 * @free_tail: where the next one goes; neither counter is reduced
 * @nr_held: slots that are held
 * @seen: @cq_head and @phase at the last tick, if there was a completion
 * @clock: jiffies at which the deadlines are looked at again
 * @owner: the ring whose commands are in flight; another ring may take over
 *	while there are none
 * @sqes: submission queue
 * @cqes: completion queue
 * @depth: entries of each
 * @nr_slots: commands in flight at most, fewer than @depth
 * @slots: commands, and unused elements up to @cid_mask
 * @free: identifiers of the commands to come, the next of each free slot, in
 *	the order in which the slots became free
 * @ops: doorbells
 * @priv: for @ops
 * @qid: Queue Identifier
 * @device: the controller
 * @users: open files that have the queue, protected by &nvme_ng_device.lock
 * @on_device: in &nvme_ng_device.queues
 * @ref: held by the transport and by each path that has the queue
 * @tick: nvme_ng_tick(), while commands are in flight
 * @reset: nvme_ng_reset_work(), which may sleep
 */
struct nvme_ng_queue {
	spinlock_t			lock;	/* all but @users */
	bool				live;
	bool				plugged;
	bool				ticking;
	u8				phase;
	u16				sq_tail;
	u16				sq_rung;
	u16				cq_head;
	u32				cid_mask;
	u32				free_head;
	u32				free_tail;
	u32				nr_held;
	u32				seen;
	unsigned long			clock;
	const void			*owner;
	struct nvme_command		*sqes;
	struct nvme_completion		*cqes;
	u32				depth;
	u32				nr_slots;
	struct nvme_ng_slot		*slots;
	u16				*free;
	const struct nvme_ng_queue_ops	*ops;
	void				*priv;
	u16				qid;
	struct nvme_ng_device		*device;
	unsigned int			users;
	struct list_head		on_device;
	struct kref			ref;
	struct delayed_work		tick;
	struct work_struct		reset;
};

/* No command is in flight. */
static bool nvme_ng_is_idle(const struct nvme_ng_queue *q)
{
	return q->free_tail - q->free_head + q->nr_held == q->nr_slots;
}

/*
 * The slot of an identifier becomes free.  The next command there has another
 * generation, and all that are free already come first: what the controller
 * says late of an identifier does not concern another command.
 */
static inline void nvme_ng_free_cid(struct nvme_ng_queue *q, u16 cid)
{
	q->free[q->free_tail++ & q->cid_mask] = cid + q->cid_mask + 1;
}

/* The last command of the path has ended; the queue's lock is held. */
static noinline void nvme_ng_exit_path(struct nvme_ng_path *path)
{
	nvme_ng_leave(path->epoch);
	percpu_ref_put(&path->ns->queue->q_usage_counter);
}

/* The end of a command; @q->lock is held. */
static inline void nvme_ng_end_slot(struct nvme_ng_queue *q,
				    struct nvme_ng_slot *slot, u16 cid)
{
	struct nvme_ng_path *path = slot->path;

	slot->ioucmd = NULL;
	if (unlikely(READ_ONCE(slot->abort) == NVME_NG_ABORTING)) {
		slot->held = true;
		q->nr_held++;
	} else {
		nvme_ng_free_cid(q, cid);
	}
	if (!--path->flying)
		nvme_ng_exit_path(path);
}

/* Has the controller completed a command?  @q->lock is held. */
static bool nvme_ng_is_pending(const struct nvme_ng_queue *q,
			       const struct nvme_completion *cqe)
{
	return (le16_to_cpu(READ_ONCE(cqe->status)) & 1) == q->phase;
}

/*
 * Complete what the controller has completed; @q->lock is held.  With @in_ring
 * the caller holds the uring_lock of the owner.
 */
static unsigned int nvme_ng_reap(struct nvme_ng_queue *q, bool in_ring)
{
	struct nvme_completion *cqe = &q->cqes[q->cq_head];
	unsigned int n = 0;

	while (nvme_ng_is_pending(q, cqe)) {
		struct io_uring_cmd *ioucmd;
		struct nvme_ng_slot *slot;
		u64 result;
		u16 cid;
		int status;

		/* the phase tells that the rest of the entry is there */
		dma_rmb();
		cid = READ_ONCE(cqe->command_id);
		status = le16_to_cpu(cqe->status) >> 1;
		result = le64_to_cpu(cqe->result.u64);
		cqe++;
		if (++q->cq_head == q->depth) {
			q->cq_head = 0;
			q->phase ^= 1;
			cqe = q->cqes;
		}
		n++;
		slot = &q->slots[cid & q->cid_mask];
		ioucmd = slot->ioucmd;
		/* never sent, or completed before */
		if (unlikely(slot->cid != cid || !ioucmd)) {
			dev_warn_ratelimited(q->device->ctrl->device,
					     "invalid id %#x completed on queue %u\n",
					     cid, q->qid);
			continue;
		}
		nvme_ng_end_slot(q, slot, cid);
		if (in_ring)
			nvme_ng_uring_done(ioucmd, status, result, 0);
		else
			nvme_ng_complete_in_task(ioucmd, status, result);
	}
	if (n)
		q->ops->ring_cq(q->priv, q->cq_head);
	return n;
}

/* A doorbell must not be written with the value that it has. */
static void nvme_ng_ring_sq(struct nvme_ng_queue *q)
{
	if (q->sq_rung == q->sq_tail)
		return;
	q->sq_rung = q->sq_tail;
	q->ops->ring_sq(q->priv, q->sq_tail);
}

static void nvme_ng_unplug(struct blk_plug_cb *cb, bool from_schedule)
{
	struct nvme_ng_queue *q = cb->data;

	kfree(cb);
	spin_lock(&q->lock);
	q->plugged = false;
	if (q->live)
		nvme_ng_ring_sq(q);
	spin_unlock(&q->lock);
}

/* A queue for the ring, if there is one left. */
static struct nvme_ng_queue *nvme_ng_claim_queue(struct nvme_ng_path *path,
						 const void *ring)
{
	struct nvme_ng_queue *q, *found = NULL;

	if (!mutex_trylock(&path->device->lock))
		return NULL;
	if (path->queue) {
		found = path->queue;
		goto out;
	}
	list_for_each_entry(q, &path->device->queues, on_device) {
		/* one that the controller has no more */
		if (!READ_ONCE(q->live))
			continue;
		if (q->users && q->owner == ring) {
			found = q;
			break;
		}
		if (!q->users && !found)
			found = q;
	}
	if (found) {
		found->users++;
		kref_get(&found->ref);
		/* pairs with nvme_ng_lean_issue() */
		smp_store_release(&path->queue, found);
	}
out:
	mutex_unlock(&path->device->lock);
	return found;
}

static void nvme_ng_free_queue(struct kref *ref)
{
	struct nvme_ng_queue *q = container_of(ref, struct nvme_ng_queue, ref);

	nvme_ng_put_device(q->device);
	kvfree(q->slots);
	kvfree(q->free);
	kfree(q);
}

/**
 * nvme_ng_release_queue - give back the queue of a path
 * @path: its file is being closed, no command is in flight
 */
void nvme_ng_release_queue(struct nvme_ng_path *path)
{
	struct nvme_ng_queue *q = path->queue;

	if (!q)
		return;
	mutex_lock(&path->device->lock);
	q->users--;
	mutex_unlock(&path->device->lock);
	kref_put(&q->ref, nvme_ng_free_queue);
}

/*
 * All of a command but data, metadata and its identifier.  The program may
 * change the entry at any time: each field is read once.
 */
static bool nvme_ng_copy_command(struct nvme_command *cmd,
				 const struct nvme_ng_uring_cmd *sqe, u32 nsid)
{
	if (READ_ONCE(sqe->flags) || READ_ONCE(sqe->rsvd1) ||
	    READ_ONCE(sqe->rsvd2) || READ_ONCE(sqe->nsid) != nsid)
		return false;
	cmd->common.nsid = cpu_to_le32(nsid);
	cmd->common.cdw2[0] = cpu_to_le32(READ_ONCE(sqe->cdw2));
	cmd->common.cdw2[1] = cpu_to_le32(READ_ONCE(sqe->cdw3));
	cmd->common.cdw10 = cpu_to_le32(READ_ONCE(sqe->cdw10));
	cmd->common.cdw11 = cpu_to_le32(READ_ONCE(sqe->cdw11));
	cmd->common.cdw12 = cpu_to_le32(READ_ONCE(sqe->cdw12));
	cmd->common.cdw13 = cpu_to_le32(READ_ONCE(sqe->cdw13));
	cmd->common.cdw14 = cpu_to_le32(READ_ONCE(sqe->cdw14));
	cmd->common.cdw15 = cpu_to_le32(READ_ONCE(sqe->cdw15));
	return true;
}

/* All of a command but its opcode and identifier; as nvme_ng_lean_issue(). */
static __always_inline int nvme_ng_prepare(struct nvme_ng_open *open,
					   struct nvme_ng_path *path,
					   struct nvme_ns *ns,
					   struct io_uring_cmd *ioucmd,
					   const struct nvme_ng_uring_cmd *sqe,
					   struct nvme_command *cmd)
{
	bool valid = nvme_ng_copy_command(cmd, sqe, ns->head->ns_id);

#ifdef NVME_NG_FIXED
	if (ioucmd->flags & IORING_URING_CMD_FIXED) {
		u32 len = READ_ONCE(sqe->data_len);

		if (unlikely(!valid || READ_ONCE(sqe->metadata) || !len ||
			     len > nvme_ng_max(ns->ctrl)))
			return 1;
		/* whatever is wrong, it goes through blk-mq */
		return !!nvme_ng_use_fixed(path, ioucmd, READ_ONCE(sqe->addr),
					   len, cmd, 0);
	}
#endif
	if (unlikely(!valid))
		return -EINVAL;
	return nvme_ng_use_regions(open, path, sqe, cmd);
}

/* The first command of a path; the queue's lock is held. */
static noinline bool nvme_ng_enter_path(struct nvme_ng_open *open,
					struct nvme_ng_path *path)
{
	if (!percpu_ref_tryget_live(&path->ns->queue->q_usage_counter))
		return false;
	path->epoch = nvme_ng_enter(open);
	return true;
}

/*
 * Can @ring send a command for @path now?  Those in flight are of one epoch: in
 * a new one, others go through blk-mq until they have ended.  @q->lock is held.
 */
static bool nvme_ng_may_issue(struct nvme_ng_queue *q,
			      struct nvme_ng_open *open,
			      struct nvme_ng_path *path, const void *ring)
{
	if (unlikely(!q->live || q->free_head == q->free_tail))
		return false;
	if (unlikely(q->owner != ring)) {
		if (!nvme_ng_is_idle(q))
			return false;
		q->owner = ring;
	}
	if (unlikely(!path->flying))
		return nvme_ng_enter_path(open, path);
	return path->epoch == nvme_ng_epoch(open) &&
		!percpu_ref_is_dying(&path->ns->queue->q_usage_counter);
}

/* The command at the tail is complete. */
static void nvme_ng_submit(struct nvme_ng_queue *q)
{
	if (++q->sq_tail == q->depth)
		q->sq_tail = 0;
	if (q->plugged)
		return;
	q->plugged = blk_check_plugged(nvme_ng_unplug, q,
				       sizeof(struct blk_plug_cb));
	if (!q->plugged)
		nvme_ng_ring_sq(q);
}

/* Commands are in flight from now on; @q->lock is held. */
static noinline void nvme_ng_start_tick(struct nvme_ng_queue *q)
{
	q->ticking = true;
	q->seen = NVME_NG_EMPTY;
	q->clock = jiffies + NVME_NG_CLOCK;
	queue_delayed_work(nvme_wq, &q->tick, NVME_NG_TICK);
}

/**
 * nvme_ng_lean_issue - issue a command on a queue of its ring
 * @ns: the namespace
 * @ioucmd: nvme_ng_is_lean(), of a ring that polls, whose uring_lock is held
 *
 * Return: -EIOCBQUEUED; 1 if the command has to take the way through blk-mq;
 * or a negative errno.
 */
int nvme_ng_lean_issue(struct nvme_ns *ns, struct io_uring_cmd *ioucmd)
{
	const struct nvme_ng_uring_cmd *sqe = nvme_ng_uring_sqe(ioucmd);
	struct nvme_ng_open *open = nvme_ng_file_open(ioucmd->file);
	const void *ring = nvme_ng_ring(ioucmd);
	struct nvme_ng_path *path;
	struct nvme_ng_queue *q;
	struct nvme_ng_slot *slot;
	struct nvme_command *cmd;
	struct nvme_ng_pdu *pdu;
	unsigned int timeout;
	u32 timeout_ms, mask;
	u8 opcode;
	u16 cid;
	int ret;

	path = open ? nvme_ng_find_path(open, ns) : NULL;
	if (unlikely(!path))
		return 1;
	/* pairs with nvme_ng_claim_queue() */
	q = smp_load_acquire(&path->queue);
	if (unlikely(!q)) {
		q = nvme_ng_claim_queue(path, ring);
		if (!q)
			return 1;
	}
	opcode = READ_ONCE(sqe->opcode);
	if (unlikely(opcode >= ARRAY_SIZE(path->op) ||
		     !path->op[opcode % ARRAY_SIZE(path->op)]))
		return 1;
	timeout_ms = READ_ONCE(sqe->timeout_ms);
	timeout = likely(!timeout_ms) ? ns->queue->rq_timeout :
		  nvme_ng_user_timeout(ns->queue, timeout_ms);

	spin_lock(&q->lock);
	ret = 1;
	if (unlikely(!nvme_ng_may_issue(q, open, path, ring)))
		goto out_unlock;
	/* in place: the controller does not look beyond the tail */
	cmd = &q->sqes[q->sq_tail];
	cmd->common.opcode = opcode;
	ret = nvme_ng_prepare(open, path, ns, ioucmd, sqe, cmd);
	if (unlikely(ret))
		goto out_exit;

	mask = q->cid_mask;
	cid = q->free[q->free_head++ & mask];
	cmd->common.command_id = cid;
	slot = &q->slots[cid & mask];
	slot->ioucmd = ioucmd;
	slot->path = path;
	slot->timeout = timeout;
	slot->deadline = jiffies + timeout;
	slot->cid = cid;
	slot->abort = NVME_NG_NO_ABORT;
	path->flying++;
	pdu = nvme_ng_pdu(ioucmd);
	pdu->lean = q;
	pdu->q = NULL;
	nvme_ng_submit(q);
	if (unlikely(!q->ticking))
		nvme_ng_start_tick(q);
	spin_unlock(&q->lock);
	return -EIOCBQUEUED;

out_exit:
	if (!path->flying)
		nvme_ng_exit_path(path);
out_unlock:
	spin_unlock(&q->lock);
	return ret;
}

/**
 * nvme_ng_lean_poll - look for completions
 * @q: queue of a command in flight
 * @ring: the ring that polls, whose uring_lock is held
 * @poll_flags: BLK_POLL_* flags
 *
 * Return: more than 0 if there were any.
 */
int nvme_ng_lean_poll(struct nvme_ng_queue *q, const void *ring,
		      unsigned int poll_flags)
{
	unsigned long until = jiffies + 1;
	bool ours;
	int n;

	do {
		n = 0;
		spin_lock(&q->lock);
		ours = q->live && q->owner == ring;
		if (likely(ours)) {
			n = nvme_ng_reap(q, true);
			/* the tick may have completed what is polled for */
			if (unlikely(!n))
				ours = !nvme_ng_is_idle(q);
		}
		spin_unlock(&q->lock);
		if (n || !ours || poll_flags & BLK_POLL_ONESHOT)
			return n;
		if (signal_pending(current))
			return 1;
		cpu_relax();
		/* the tick may have completed a later command of this ring */
	} while (!need_resched() && time_before(jiffies, until));
	return 0;
}

/* Is the controller lost?  NVM Express Base specification, CSTS */
static bool nvme_ng_is_dead(struct nvme_ctrl *ctrl)
{
	u32 csts;

	return ctrl->ops->reg_read32(ctrl, NVME_REG_CSTS, &csts) ||
		csts == ~0U || csts & NVME_CSTS_CFS;
}

static enum rq_end_io_ret nvme_ng_abort_end(NVME_NG_END_IO_ARGS)
{
	struct nvme_ng_queue *q = req->end_io_data;
	u16 cid = nvme_req(req)->cmd->abort.cid;

	atomic_inc(&nvme_req(req)->ctrl->abort_limit);
	/* in an interrupt: the lock of the queue is not for that */
	WRITE_ONCE(q->slots[cid & q->cid_mask].abort, NVME_NG_ABORTED);
	kref_put(&q->ref, nvme_ng_free_queue);
	return RQ_END_IO_FREE;
}

/* Ask the controller to give up a command; @q->lock is held. */
static bool nvme_ng_abort(struct nvme_ng_queue *q, struct nvme_ng_slot *slot)
{
	struct nvme_ctrl *ctrl = q->device->ctrl;
	struct nvme_command c = {
		.abort.opcode	= nvme_admin_abort_cmd,
		.abort.sqid	= cpu_to_le16(q->qid),
		.abort.cid	= slot->cid,
	};
	struct request *req;

	if (atomic_dec_return(&ctrl->abort_limit) < 0)
		goto out_inc;
	req = blk_mq_alloc_request(ctrl->admin_q, nvme_req_op(&c),
				   BLK_MQ_REQ_NOWAIT);
	if (IS_ERR(req))
		goto out_inc;
	nvme_init_request(req, &c);
	kref_get(&q->ref);
	slot->abort = NVME_NG_ABORTING;
	req->end_io = nvme_ng_abort_end;
	req->end_io_data = q;
	blk_execute_rq_nowait(req, false);
	return true;

out_inc:
	atomic_inc(&ctrl->abort_limit);
	return false;
}

/*
 * A command takes too long: it is aborted first, and the second time only a
 * reset helps.
 */
static bool nvme_ng_needs_reset(struct nvme_ng_queue *q,
				struct nvme_ng_slot *slot)
{
	struct device *dev = q->device->ctrl->device;
	bool dead = nvme_ng_is_dead(q->device->ctrl);

	/* a reset would end the recovery of the link, and the device with it */
	if (q->ops->is_frozen(q->priv)) {
		slot->deadline = jiffies + slot->timeout;
		return false;
	}
	if (slot->abort == NVME_NG_NO_ABORT && !dead) {
		slot->deadline = jiffies + slot->timeout;
		/* where there are too many aborts already, wait for them */
		if (nvme_ng_abort(q, slot))
			dev_warn_ratelimited(dev, "command %#x of queue %u timeout, aborting\n",
					     slot->cid, q->qid);
		return false;
	}
	dev_warn_ratelimited(dev, "command %#x of queue %u timeout, reset controller\n",
			     slot->cid, q->qid);
	return true;
}

/* Look at the deadlines: is a reset needed?  @q->lock is held. */
static bool nvme_ng_check_deadlines(struct nvme_ng_queue *q)
{
	bool reaped = false;
	u16 i;

	for (i = 0; i < q->nr_slots; i++) {
		struct nvme_ng_slot *slot = &q->slots[i];

		if (!slot->ioucmd || !time_after(jiffies, slot->deadline))
			continue;
		/* the controller may not be late at all */
		if (!reaped)
			nvme_ng_reap(q, false);
		reaped = true;
		if (slot->ioucmd && nvme_ng_needs_reset(q, slot))
			return true;
	}
	return false;
}

/* Free the slots whose Abort has completed; @q->lock is held. */
static void nvme_ng_release_held(struct nvme_ng_queue *q)
{
	u16 i;

	for (i = 0; i < q->nr_slots && q->nr_held; i++) {
		struct nvme_ng_slot *slot = &q->slots[i];

		if (!slot->held || READ_ONCE(slot->abort) != NVME_NG_ABORTED)
			continue;
		slot->held = false;
		q->nr_held--;
		nvme_ng_free_cid(q, slot->cid);
	}
}

/* A controller that is being removed is not reset any more. */
static void nvme_ng_reset_work(struct work_struct *work)
{
	struct nvme_ng_queue *q = container_of(work, struct nvme_ng_queue,
					       reset);
	struct nvme_ctrl *ctrl = q->device->ctrl;

	if (!nvme_reset_ctrl(ctrl))
		return;
	switch (nvme_ctrl_state(ctrl)) {
	case NVME_CTRL_DELETING:
	case NVME_CTRL_DELETING_NOIO:
	case NVME_CTRL_DEAD:
		q->ops->disable(q->priv);
		break;
	default:
		break;
	}
}

/*
 * Complete what was there at the last tick and still is, so that others do not
 * wait for a ring that does not poll; @q->lock is held.  A ring that does poll
 * has taken all that was there.
 */
static void nvme_ng_reap_stale(struct nvme_ng_queue *q)
{
	u32 here = (u32)q->cq_head << 1 | q->phase;

	if (!nvme_ng_is_pending(q, &q->cqes[q->cq_head])) {
		q->seen = NVME_NG_EMPTY;
	} else if (q->seen != here) {
		q->seen = here;
	} else {
		nvme_ng_reap(q, false);
		q->seen = NVME_NG_EMPTY;
	}
}

/* While commands are in flight; does not sleep. */
static void nvme_ng_tick(struct work_struct *work)
{
	struct nvme_ng_queue *q = container_of(to_delayed_work(work),
					       struct nvme_ng_queue, tick);

	spin_lock(&q->lock);
	if (q->live) {
		/* who has the plug may have been preempted */
		if (q->plugged)
			nvme_ng_ring_sq(q);
		nvme_ng_reap_stale(q);
		if (time_after(jiffies, q->clock)) {
			q->clock = jiffies + NVME_NG_CLOCK;
			if (nvme_ng_check_deadlines(q))
				queue_work(nvme_reset_wq, &q->reset);
		}
	}
	if (q->nr_held)
		nvme_ng_release_held(q);
	q->ticking = q->live && (!nvme_ng_is_idle(q) || q->nr_held);
	if (q->ticking)
		queue_delayed_work(nvme_wq, &q->tick, NVME_NG_TICK);
	spin_unlock(&q->lock);
}

/**
 * nvme_ng_add_queue - offer a queue pair to rings
 * @ctrl: the controller
 * @qid: Queue Identifier
 * @depth: entries of each of the two, from 2 to 4096 so that 4 bits of an
 *	identifier or more are its generation
 * @ops: doorbells
 * @priv: for @ops
 *
 * Return: the queue, not live yet, or NULL.
 */
struct nvme_ng_queue *nvme_ng_add_queue(struct nvme_ctrl *ctrl, u16 qid,
					u32 depth,
					const struct nvme_ng_queue_ops *ops,
					void *priv)
{
	struct nvme_ng_device *device = nvme_ng_get_device(ctrl);
	struct nvme_ng_queue *q;
	u32 nr;

	if (!device)
		return NULL;
	q = kzalloc_obj(*q);
	if (!q) {
		nvme_ng_put_device(device);
		return NULL;
	}
	kref_init(&q->ref);
	spin_lock_init(&q->lock);
	INIT_DELAYED_WORK(&q->tick, nvme_ng_tick);
	INIT_WORK(&q->reset, nvme_ng_reset_work);
	q->device = device;
	q->qid = qid;
	q->ops = ops;
	q->priv = priv;
	q->depth = depth;
	q->nr_slots = depth - 1;
	nr = roundup_pow_of_two(q->nr_slots);
	q->cid_mask = nr - 1;
	q->slots = kvcalloc(nr, sizeof(*q->slots), GFP_KERNEL);
	q->free = kvcalloc(nr, sizeof(*q->free), GFP_KERNEL);
	if (!q->slots || !q->free || depth > NVME_NG_MAX_DEPTH) {
		kref_put(&q->ref, nvme_ng_free_queue);
		return NULL;
	}
	for (; q->free_tail < q->nr_slots; q->free_tail++)
		q->free[q->free_tail] = q->free_tail;
	mutex_lock(&device->lock);
	list_add_tail(&q->on_device, &device->queues);
	mutex_unlock(&device->lock);
	return q;
}
EXPORT_SYMBOL_GPL(nvme_ng_add_queue);

/**
 * nvme_ng_start_queue - let commands in
 * @q: the queue, with no command in flight
 * @depth: entries of each; the queue stays stopped if they became others
 * @sqes: submission queue, as it was created
 * @cqes: completion queue, all zero
 */
void nvme_ng_start_queue(struct nvme_ng_queue *q, u32 depth,
			 struct nvme_command *sqes,
			 struct nvme_completion *cqes)
{
	spin_lock(&q->lock);
	q->sqes = sqes;
	q->cqes = cqes;
	q->sq_tail = 0;
	q->sq_rung = 0;
	q->cq_head = 0;
	q->phase = 1;
	q->live = depth == q->depth;
	if (q->nr_held)
		nvme_ng_release_held(q);
	spin_unlock(&q->lock);
}
EXPORT_SYMBOL_GPL(nvme_ng_start_queue);

/**
 * nvme_ng_stop_queue - let no command in any more
 * @q: the queue
 */
void nvme_ng_stop_queue(struct nvme_ng_queue *q)
{
	spin_lock(&q->lock);
	q->live = false;
	spin_unlock(&q->lock);
}
EXPORT_SYMBOL_GPL(nvme_ng_stop_queue);

/**
 * nvme_ng_cancel_queue - complete all commands in flight
 * @q: the queue, stopped, of a controller that does not touch memory any more
 *
 * Commands that the controller has not completed end with -EINTR.
 *
 * Return: whether it was started, or else its entries may be somebody else's.
 */
bool nvme_ng_cancel_queue(struct nvme_ng_queue *q)
{
	bool started;
	u16 i;

	spin_lock(&q->lock);
	started = q->cqes;
	if (started)
		nvme_ng_reap(q, false);
	for (i = 0; i < q->nr_slots; i++) {
		struct nvme_ng_slot *slot = &q->slots[i];
		struct io_uring_cmd *ioucmd = slot->ioucmd;

		if (!ioucmd)
			continue;
		nvme_ng_end_slot(q, slot, slot->cid);
		nvme_ng_complete_in_task(ioucmd, -EINTR, 0);
	}
	q->cqes = NULL;
	spin_unlock(&q->lock);
	return started;
}
EXPORT_SYMBOL_GPL(nvme_ng_cancel_queue);

/**
 * nvme_ng_remove_queue - take a queue back for good
 * @q: the queue, stopped and cancelled, or NULL
 */
void nvme_ng_remove_queue(struct nvme_ng_queue *q)
{
	if (!q)
		return;
	mutex_lock(&q->device->lock);
	list_del(&q->on_device);
	mutex_unlock(&q->device->lock);
	cancel_delayed_work_sync(&q->tick);
	cancel_work_sync(&q->reset);
	kref_put(&q->ref, nvme_ng_free_queue);
}
EXPORT_SYMBOL_GPL(nvme_ng_remove_queue);
