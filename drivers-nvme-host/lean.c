// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-ng: commands on queue pairs that blk-mq does not know.
 *
 * Commands of rings need no request: a command is written to the submission
 * queue where it is issued, and completed where a ring polls or in the
 * interrupt.  Queues that are polled and queues with interrupts are of
 * different kinds; each is shared by the files that have it, of which none can
 * keep a slot from another for long: who finds no slot goes through blk-mq.
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
#include <linux/cpumask.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include "mapping.h"
#include "ng-queue.h"

/*
 * jiffies between two looks at what is in flight.  A completion that is found
 * twice is completed: nobody waits for a ring for longer than 100 ms.
 */
#define NVME_NG_TICK	(HZ / 25)

/* commands that end while the lock is held once */
#define NVME_NG_REAP		32

/* jiffies between two looks at the deadlines */
#define NVME_NG_CLOCK	HZ

/* &nvme_ng_queue.seen if the queue was empty */
#define NVME_NG_EMPTY	U32_MAX

/* how long no memory for descriptors is asked for again */
#define NVME_NG_DESC_RETRY	(10 * HZ)

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
 * @lane: from where it came
 * @deadline: jiffies at which it is aborted
 * @timeout: jiffies from start to @deadline
 * @tag: of a command of an array, as the program knows it
 * @cid: Command Identifier, whose lower bits are the index of the slot
 * @abort: NVME_NG_ABORT*; a command that was aborted gets as much time again.
 *	Written without the lock when Abort completes
 * @held: the command has ended, Abort has not: the slot is not free yet
 */
struct nvme_ng_slot {
	struct io_uring_cmd	*ioucmd;
	struct nvme_ng_lane	*lane;
	unsigned long		deadline;
	u64			tag;
	u32			timeout;
	u16			cid;
	u8			abort;
	bool			held;
};

/**
 * struct nvme_ng_queue - a queue pair without requests
 * @lock: protects what changes, but for @users; taken in interrupts
 * @live: the controller takes commands
 * @plugged: the last task that rings the submission doorbell when it flushes
 *	its plug, or NULL
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
 * @polled: the controller does not interrupt
 * @share: slots that each lane can have, by how many of them are @active
 * @active: lanes with commands in flight
 * @deaf: no CPU of @cpus takes its interrupts
 * @cpus: CPUs of its vector
 * @descs: descriptors of vectored commands, NVME_NG_DESC_BYTES for each slot,
 *	or NULL; made under @lock for the first such command, and taken away
 *	under &nvme_ng_device.lock when no file has the queue any more
 * @descs_dma: as the controller sees them
 * @retry_descs: jiffies before which there is no memory for @descs, or 0
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
	const struct task_struct	*plugged;
	struct nvme_command		*sqes;
	struct nvme_completion		*cqes;
	u32				depth;
	u32				nr_slots;
	struct nvme_ng_slot		*slots;
	u16				*free;
	const struct nvme_ng_queue_ops	*ops;
	void				*priv;
	u16				qid;
	bool				polled;
	bool				deaf;
	struct cpumask			*cpus;
	u32				share;
	u32				active;
	void				*descs;
	dma_addr_t			descs_dma;
	unsigned long			retry_descs;
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

/* Slots of each lane, so that all of them find some */
#define NVME_NG_MIN_SHARE	64U

/* @active has changed; @q->lock is held. */
static void nvme_ng_share_queue(struct nvme_ng_queue *q)
{
	q->share = q->active > 1 ?
		   max(q->nr_slots / q->active, NVME_NG_MIN_SHARE) :
		   q->nr_slots;
}

/* The last command of the lane has ended; the queue's lock is held. */
static noinline void nvme_ng_exit_lane(struct nvme_ng_lane *lane)
{
	lane->queue->active--;
	nvme_ng_share_queue(lane->queue);
	nvme_ng_leave(lane->epoch);
	percpu_ref_put(&lane->path->ns->queue->q_usage_counter);
}

/* The end of a command; @q->lock is held. */
static inline void nvme_ng_end_slot(struct nvme_ng_queue *q,
				    struct nvme_ng_slot *slot, u16 cid)
{
	struct nvme_ng_lane *lane = slot->lane;

	slot->ioucmd = NULL;
	if (unlikely(READ_ONCE(slot->abort) == NVME_NG_ABORTING)) {
		slot->held = true;
		q->nr_held++;
	} else {
		nvme_ng_free_cid(q, cid);
	}
	if (!--lane->flying)
		nvme_ng_exit_lane(lane);
}

/* Has the controller completed a command?  @q->lock is held. */
static bool nvme_ng_is_pending(const struct nvme_ng_queue *q,
			       const struct nvme_completion *cqe)
{
	return (le16_to_cpu(READ_ONCE(cqe->status)) & 1) == q->phase;
}

/*
 * The end of a command of an array; the queue's lock is held.  Return: whether
 * it is the last one.  Then @pdu is that of a command in itself, which ends with
 * how many there were.
 */
static __always_inline bool nvme_ng_end_of_array(struct nvme_ng_pdu *pdu,
						 const struct nvme_ng_slot *slot,
						 int *status, u64 *result)
{
	struct nvme_ng_results *r = pdu->results;

	nvme_ng_post(r, slot->tag, *status, *result);
	if (!--r->flying)
		/* pairs with nvme_ng_claim_results() */
		smp_store_release(&r->queue, NULL);
	if (--pdu->left)
		return false;
	*status = pdu->taken;
	*result = 0;
	pdu->word = NVME_NG_REGION;
	return true;
}

/*
 * The end of a command that has more to let go of than a slot; @q->lock is
 * held.  Those of @ring of which that sleeps are linked by &nvme_ng_pdu.q to
 * be ended without the lock.
 */
static noinline void nvme_ng_end_slowly(struct nvme_ng_queue *q,
					struct io_uring_cmd *ioucmd, int status,
					u64 result, const void *ring,
					struct io_uring_cmd **ended)
{
	struct nvme_ng_pdu *pdu = nvme_ng_pdu(ioucmd);

	if (!pdu->word) {
		pdu->result = result;
		pdu->value = status;
	} else {
		nvme_ng_end_data(ioucmd, q->device->ctrl->dev, status, result);
	}
	if (!ring || nvme_ng_uring_ctx(ioucmd) != ring) {
		/* its ring must not wait for it any more */
		WRITE_ONCE(pdu->lean, NULL);
		nvme_ng_end_elsewhere(ioucmd);
	} else if (nvme_ng_end_sleeps(pdu)) {
		pdu->next = *ended;
		*ended = ioucmd;
	} else {
		nvme_ng_uring_end(ioucmd, 0);
	}
}

/*
 * Complete what the controller has completed; @q->lock is held.  The caller
 * holds the uring_lock of @ring, or that is NULL; then there is no @ended.
 */
static __always_inline unsigned int nvme_ng_reap(struct nvme_ng_queue *q,
						 const void *ring,
						 struct io_uring_cmd **ended)
{
	struct nvme_completion *cqe = &q->cqes[q->cq_head];
	unsigned int n = 0;

	while (n < NVME_NG_REAP && nvme_ng_is_pending(q, cqe)) {
		struct io_uring_cmd *ioucmd;
		struct nvme_ng_slot *slot;
		struct nvme_ng_pdu *pdu;
		u64 result, word;
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
		pdu = nvme_ng_pdu(ioucmd);
		word = pdu->word;
		if (word != NVME_NG_REGION && nvme_ng_is_array(pdu)) {
			if (!nvme_ng_end_of_array(pdu, slot, &status, &result))
				continue;
			word = NVME_NG_REGION;
		}
		if (!ring || unlikely(nvme_ng_uring_ctx(ioucmd) != ring) ||
		    (word != NVME_NG_REGION && word != nvme_ng_kept_fixed())) {
			nvme_ng_end_slowly(q, ioucmd, status, result, ring,
					   ended);
			continue;
		}
		if (word != NVME_NG_REGION)
			nvme_ng_put_mapping(pdu->mapping);
		nvme_ng_uring_done(ioucmd, status, result, 0);
	}
	if (n)
		q->ops->ring_cq(q->priv, q->cq_head);
	return n;
}

/* The same where no ring polls, all of them; gives the lock up in between. */
static noinline void nvme_ng_reap_elsewhere(struct nvme_ng_queue *q)
{
	while (q->cqes && nvme_ng_reap(q, NULL, NULL) == NVME_NG_REAP) {
		spin_unlock_irq(&q->lock);
		cond_resched();
		spin_lock_irq(&q->lock);
	}
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
	spin_lock_irq(&q->lock);
	if (q->plugged == current)
		q->plugged = NULL;
	if (q->live)
		nvme_ng_ring_sq(q);
	spin_unlock_irq(&q->lock);
}

/* A controller that is being removed is not reset any more. */
static bool nvme_ng_is_going(struct nvme_ctrl *ctrl)
{
	switch (nvme_ctrl_state(ctrl)) {
	case NVME_CTRL_DELETING:
	case NVME_CTRL_DELETING_NOIO:
	case NVME_CTRL_DEAD:
		return true;
	default:
		return false;
	}
}

/* Is a completion heard of before the next tick, if nobody polls? */
static bool nvme_ng_hears(const struct nvme_ng_queue *q)
{
	return q->polled || cpumask_intersects(q->cpus, cpu_online_mask);
}

/* The queue that the fewest files have, if there is one. */
static struct nvme_ng_queue *nvme_ng_claim_queue(struct nvme_ng_lane *lane,
						 bool polled, bool wait)
{
	struct nvme_ng_device *device = lane->path->device;
	struct nvme_ng_queue *q, *found = NULL;

	if (list_empty(&device->queues))
		return NULL;
	/* others go through blk-mq rather than wait */
	if (wait)
		mutex_lock(&device->lock);
	else if (!mutex_trylock(&device->lock))
		return NULL;
	if (lane->queue) {
		found = lane->queue;
		goto out;
	}
	list_for_each_entry(q, &device->queues, on_device) {
		/* or one that the controller has no more */
		if (q->polled != polled || !READ_ONCE(q->live) ||
		    !nvme_ng_hears(q))
			continue;
		if (!found || q->users < found->users)
			found = q;
	}
	if (found) {
		found->users++;
		kref_get(&found->ref);
		/* pairs with nvme_ng_lean_issue() */
		smp_store_release(&lane->queue, found);
	}
out:
	mutex_unlock(&device->lock);
	return found;
}

static void nvme_ng_free_queue(struct kref *ref)
{
	struct nvme_ng_queue *q = container_of(ref, struct nvme_ng_queue, ref);

	nvme_ng_put_device(q->device);
	kvfree(q->slots);
	kvfree(q->free);
	kfree(q->cpus);
	kfree(q);
}

/* bytes of descriptors for all commands of a queue */
static size_t nvme_ng_descs_len(const struct nvme_ng_queue *q)
{
	return (size_t)NVME_NG_DESC_BYTES * (q->cid_mask + 1);
}

/* A file less has the queue.  Sleeps. */
static void nvme_ng_release_queue(struct nvme_ng_queue *q)
{
	struct nvme_ng_device *device = q->device;
	void *descs = NULL;
	dma_addr_t dma = 0;

	mutex_lock(&device->lock);
	if (!--q->users) {
		descs = q->descs;
		dma = q->descs_dma;
		q->descs = NULL;
	}
	mutex_unlock(&device->lock);
	if (descs) {
		down_read(&device->mapping);
		/* or else it goes with the driver data */
		if (!device->gone)
			dmam_free_coherent(device->ctrl->dev,
					   nvme_ng_descs_len(q), descs, dma);
		up_read(&device->mapping);
	}
	kref_put(&q->ref, nvme_ng_free_queue);
}

/**
 * nvme_ng_release_queues - give back the queues of a path
 * @path: its file is being closed, no command is in flight
 */
void nvme_ng_release_queues(struct nvme_ng_path *path)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(path->lane); i++)
		if (path->lane[i].queue)
			nvme_ng_release_queue(path->lane[i].queue);
}

/* Two dwords of a command at once, which are at a multiple of 8 bytes. */
static __always_inline void nvme_ng_copy_two(__le32 *to, const __u32 *from)
{
	u64 two = READ_ONCE(*(const u64 *)from);

	if (IS_ENABLED(CONFIG_CPU_BIG_ENDIAN))
		two = two >> 32 | two << 32;
	*(__le64 *)to = cpu_to_le64(two);
}

/*
 * All of a command but data, metadata and its identifier.  The program may
 * change the entry at any time: each field is read once.
 */
static __always_inline bool
nvme_ng_copy_command(struct nvme_command *cmd,
		     const struct nvme_ng_uring_cmd *sqe, u32 nsid)
{
	BUILD_BUG_ON(offsetof(struct nvme_ng_uring_cmd, cdw2) % 8 ||
		     offsetof(struct nvme_ng_uring_cmd, cdw10) % 8 ||
		     offsetof(struct nvme_common_command, cdw2) % 8 ||
		     offsetof(struct nvme_common_command, cdw10) % 8);
	if (READ_ONCE(sqe->flags) || READ_ONCE(sqe->rsvd1) ||
	    READ_ONCE(sqe->rsvd2) || READ_ONCE(sqe->nsid) != nsid)
		return false;
	cmd->common.nsid = cpu_to_le32(nsid);
	nvme_ng_copy_two(cmd->common.cdw2, &sqe->cdw2);
	nvme_ng_copy_two(&cmd->common.cdw10, &sqe->cdw10);
	nvme_ng_copy_two(&cmd->common.cdw12, &sqe->cdw12);
	nvme_ng_copy_two(&cmd->common.cdw14, &sqe->cdw14);
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
	return nvme_ng_use_regions(open, path, sqe, cmd, NULL);
}

/* The first command of a lane; the queue's lock is held. */
static noinline bool nvme_ng_enter_lane(struct nvme_ng_open *open,
					struct nvme_ng_lane *lane)
{
	if (!percpu_ref_tryget_live(&lane->path->ns->queue->q_usage_counter))
		return false;
	lane->epoch = nvme_ng_enter(open);
	lane->queue->active++;
	nvme_ng_share_queue(lane->queue);
	return true;
}

/* Is there a slot for a command of @lane?  Without @q->lock a good guess. */
static __always_inline bool nvme_ng_has_slot(const struct nvme_ng_queue *q,
					     const struct nvme_ng_lane *lane)
{
	return q->live && q->free_head != q->free_tail &&
		lane->flying < q->share;
}

/*
 * Can a command of @lane be sent now?  Those in flight are of one epoch: in a
 * new one, others go through blk-mq until they have ended.  @q->lock is held.
 */
static __always_inline bool nvme_ng_may_issue(struct nvme_ng_queue *q,
					      struct nvme_ng_open *open,
					      struct nvme_ng_lane *lane,
					      struct request_queue *rq)
{
	if (unlikely(!nvme_ng_has_slot(q, lane) || blk_queue_quiesced(rq)))
		return false;
	if (unlikely(q->deaf)) {
		q->deaf = !nvme_ng_hears(q);
		if (q->deaf)
			return false;
	}
	if (unlikely(!lane->flying))
		return nvme_ng_enter_lane(open, lane);
	return lane->epoch == nvme_ng_epoch(open) &&
		!percpu_ref_is_dying(&rq->q_usage_counter);
}

/* Tell the controller what is at the tail, now or with the task's plug. */
static __always_inline void nvme_ng_submit(struct nvme_ng_queue *q)
{
	/* another task's plug is not waited for */
	if (likely(q->plugged == current))
		return;
	if (blk_check_plugged(nvme_ng_unplug, q, sizeof(struct blk_plug_cb)))
		q->plugged = current;
	else
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

/* The command at the tail is made but for its identifier; @q->lock is held. */
static __always_inline struct nvme_ng_slot *
nvme_ng_take_slot(struct nvme_ng_queue *q, struct nvme_ng_lane *lane,
		  struct io_uring_cmd *ioucmd, struct nvme_command *cmd,
		  unsigned int timeout)
{
	u32 mask = q->cid_mask;
	u16 cid = q->free[q->free_head++ & mask];
	struct nvme_ng_slot *slot = &q->slots[cid & mask];

	cmd->common.command_id = cid;
	slot->ioucmd = ioucmd;
	slot->lane = lane;
	slot->timeout = timeout;
	slot->deadline = jiffies + timeout;
	slot->cid = cid;
	slot->abort = NVME_NG_NO_ABORT;
	lane->flying++;
	if (++q->sq_tail == q->depth)
		q->sq_tail = 0;
	return slot;
}

/* What it takes beyond a slot. */
static __always_inline void nvme_ng_take_off(struct nvme_ng_queue *q,
					     struct nvme_ng_pdu *pdu)
{
	pdu->lean = q;
	pdu->q = NULL;
	nvme_ng_submit(q);
	if (unlikely(!q->ticking))
		nvme_ng_start_tick(q);
}

/**
 * nvme_ng_find_lane - a queue that blk-mq does not know for a command
 * @file: the open node
 * @ns: the namespace that the command goes to
 * @polled: the ring polls for it
 *
 * Process context, sleeps.  Return: the lane, or NULL.
 */
struct nvme_ng_lane *nvme_ng_find_lane(struct file *file, struct nvme_ns *ns,
				       bool polled)
{
	struct nvme_ng_open *open = nvme_ng_get_open(file);
	struct nvme_ng_path *path;
	struct nvme_ng_lane *lane;

	path = open ? nvme_ng_get_path(open, ns) : NULL;
	if (IS_ERR_OR_NULL(path))
		return NULL;
	lane = &path->lane[polled];
	/* pairs with nvme_ng_claim_queue() */
	if (unlikely(!smp_load_acquire(&lane->queue) &&
		     !nvme_ng_claim_queue(lane, polled, false)))
		return NULL;
	return lane;
}

/**
 * nvme_ng_lean_send - send a command on a queue that blk-mq does not know
 * @lane: which queue
 * @ioucmd: the command, whose &struct nvme_ng_pdu tells what ends with it
 * @cmd: the command but for its identifier
 * @timeout: jiffies
 *
 * The caller holds a reference to the namespace's request queue.
 *
 * Return: -EIOCBQUEUED, or 1 if it has to take the way through blk-mq.
 */
int nvme_ng_lean_send(struct nvme_ng_lane *lane, struct io_uring_cmd *ioucmd,
		      const struct nvme_command *cmd, unsigned int timeout)
{
	struct nvme_ng_open *open = nvme_ng_file_open(ioucmd->file);
	struct nvme_ng_queue *q = lane->queue;
	struct nvme_command *at;
	int ret = 1;

	spin_lock_irq(&q->lock);
	if (likely(nvme_ng_may_issue(q, open, lane, lane->path->ns->queue))) {
		at = &q->sqes[q->sq_tail];
		*at = *cmd;
		nvme_ng_take_slot(q, lane, ioucmd, at, timeout);
		nvme_ng_take_off(q, nvme_ng_pdu(ioucmd));
		ret = -EIOCBQUEUED;
	}
	spin_unlock_irq(&q->lock);
	return ret;
}

/* A command with few segments, which the program cannot change any more */
struct nvme_ng_few {
	struct nvme_ng_segment	seg[NVME_NG_FEW_SEGMENTS];
	unsigned int		nr;
};

/* The same with descriptors of the slot that the command is going to have. */
static int nvme_ng_prepare_few(struct nvme_ng_queue *q,
			       struct nvme_ng_open *open,
			       struct nvme_ng_path *path,
			       const struct nvme_ng_uring_cmd *sqe,
			       struct nvme_command *cmd,
			       const struct nvme_ng_few *few)
{
	u32 at = (q->free[q->free_head & q->cid_mask] & q->cid_mask) *
		NVME_NG_DESC_BYTES;

	/* whatever is wrong, it goes the other way */
	if (!nvme_ng_copy_command(cmd, sqe, path->ns->head->ns_id))
		return 1;
	return nvme_ng_use_segments(open, path, few->seg, few->nr, cmd,
				    q->descs + at, q->descs_dma + at);
}

static __always_inline int nvme_ng_lean_issue_any(struct nvme_ns *ns,
						  struct io_uring_cmd *ioucmd,
						  struct nvme_ng_open *open,
						  struct nvme_ng_lane *lane,
						  struct nvme_ng_queue *q,
						  const struct nvme_ng_few *few)
{
	const struct nvme_ng_uring_cmd *sqe = nvme_ng_uring_sqe(ioucmd);
	struct nvme_ng_path *path = lane->path;
	struct nvme_command *cmd;
	unsigned int timeout;
	u32 timeout_ms;
	u8 opcode;
	int ret;

	opcode = READ_ONCE(sqe->opcode);
	if (unlikely(opcode >= ARRAY_SIZE(path->op) ||
		     !path->op[opcode % ARRAY_SIZE(path->op)]))
		return 1;
	timeout_ms = READ_ONCE(sqe->timeout_ms);
	timeout = likely(!timeout_ms) ? ns->queue->rq_timeout :
		  nvme_ng_user_timeout(ns->queue, timeout_ms,
				       capable(CAP_SYS_ADMIN));

	spin_lock_irq(&q->lock);
	ret = 1;
	if (unlikely(!nvme_ng_may_issue(q, open, lane, ns->queue)))
		goto out_unlock;
	/* in place: the controller does not look beyond the tail */
	cmd = &q->sqes[q->sq_tail];
	cmd->common.opcode = opcode;
	ret = few ? nvme_ng_prepare_few(q, open, path, sqe, cmd, few) :
		    nvme_ng_prepare(open, path, ns, ioucmd, sqe, cmd);
	if (unlikely(ret))
		goto out_exit;

	nvme_ng_pdu(ioucmd)->word = NVME_NG_REGION;
	nvme_ng_take_slot(q, lane, ioucmd, cmd, timeout);
	nvme_ng_take_off(q, nvme_ng_pdu(ioucmd));
	spin_unlock_irq(&q->lock);
	return -EIOCBQUEUED;

out_exit:
	if (!lane->flying)
		nvme_ng_exit_lane(lane);
out_unlock:
	spin_unlock_irq(&q->lock);
	return ret;
}

/**
 * nvme_ng_lean_issue - issue a command on a queue that blk-mq does not know
 * @ns: the namespace
 * @ioucmd: nvme_ng_is_lean(), of a ring whose uring_lock is held
 * @polled: the ring polls for it
 *
 * Return: -EIOCBQUEUED; 1 if the command has to take the way through blk-mq;
 * or a negative errno.
 */
int nvme_ng_lean_issue(struct nvme_ns *ns, struct io_uring_cmd *ioucmd,
		       bool polled)
{
	struct nvme_ng_open *open = nvme_ng_file_open(ioucmd->file);
	struct nvme_ng_path *path;
	struct nvme_ng_lane *lane;
	struct nvme_ng_queue *q;

	path = open ? nvme_ng_find_path(open, ns) : NULL;
	if (unlikely(!path))
		return 1;
	lane = &path->lane[polled];
	/* pairs with nvme_ng_claim_queue() */
	q = smp_load_acquire(&lane->queue);
	if (unlikely(!q)) {
		q = nvme_ng_claim_queue(lane, polled, false);
		if (!q)
			return 1;
	}
	return nvme_ng_lean_issue_any(ns, ioucmd, open, lane, q, NULL);
}

/* Memory for the descriptors of vectored commands.  Sleeps. */
static noinline bool nvme_ng_get_descs(struct nvme_ng_queue *q)
{
	struct nvme_ng_device *device = q->device;
	size_t len = nvme_ng_descs_len(q);
	unsigned long retry = READ_ONCE(q->retry_descs);
	unsigned int noio;
	dma_addr_t dma;
	void *descs;

	if (retry && time_before(jiffies, retry))
		return false;
	down_read(&device->mapping);
	if (device->gone)
		goto out;
	/* what is freed to have memory must not wait for who waits for this */
	noio = memalloc_noio_save();
	descs = dmam_alloc_coherent(device->ctrl->dev, len, &dma,
				    GFP_KERNEL | __GFP_NOWARN |
				    __GFP_NORETRY);
	memalloc_noio_restore(noio);
	if (!descs)
		WRITE_ONCE(q->retry_descs, (jiffies + NVME_NG_DESC_RETRY) | 1);
	spin_lock_irq(&q->lock);
	if (descs && !q->descs) {
		q->descs_dma = dma;
		/* pairs with nvme_ng_lean_issue_vec() */
		smp_store_release(&q->descs, descs);
		descs = NULL;
	}
	spin_unlock_irq(&q->lock);
	/* another ring was first */
	if (descs)
		dmam_free_coherent(device->ctrl->dev, len, descs, dma);
out:
	up_read(&device->mapping);
	return q->descs;
}

/**
 * nvme_ng_lean_issue_vec - the same for a command with segments in regions
 * @ns: the namespace
 * @ioucmd: NVME_NG_URING_CMD_IO_VEC, of a ring whose uring_lock is held
 * @issue_flags: as io_uring gave them
 *
 * Sleeps.  Return: -EIOCBQUEUED, or 1 if the command takes more than
 * NVME_NG_DESC_BYTES of descriptors.
 */
int nvme_ng_lean_issue_vec(struct nvme_ns *ns, struct io_uring_cmd *ioucmd,
			   unsigned int issue_flags)
{
	const struct nvme_ng_uring_cmd *sqe = nvme_ng_uring_sqe(ioucmd);
	struct nvme_ng_open *open = nvme_ng_file_open(ioucmd->file);
	struct nvme_ng_path *path;
	struct nvme_ng_lane *lane;
	struct nvme_ng_queue *q;
	struct nvme_ng_few few __uninitialized;

	path = open ? nvme_ng_find_path(open, ns) : NULL;
	few.nr = READ_ONCE(sqe->data_len);
	if (!path || !few.nr || few.nr > NVME_NG_FEW_SEGMENTS ||
	    nvme_ng_may_exceed(ns, true) ||
	    READ_ONCE(sqe->metadata_len) || READ_ONCE(sqe->region) ||
	    ioucmd->flags & IORING_URING_CMD_FIXED ||
	    nvme_ng_uring_compat(ioucmd, issue_flags))
		return 1;
	lane = &path->lane[!!(issue_flags & IO_URING_F_IOPOLL)];
	/* pairs with nvme_ng_claim_queue() */
	q = smp_load_acquire(&lane->queue);
	/* pairs with nvme_ng_get_descs() */
	if (!q || (unlikely(!smp_load_acquire(&q->descs)) &&
		   !nvme_ng_get_descs(q)))
		return 1;
	if (copy_from_user(few.seg, u64_to_user_ptr(READ_ONCE(sqe->addr)),
			   few.nr * sizeof(few.seg[0])))
		return 1;
	return nvme_ng_lean_issue_any(ns, ioucmd, open, lane, q, &few);
}

/* Where the data of a command is: one piece of memory */
struct nvme_ng_found {
	struct page	*page;
	u32		offset;
	u32		len;
	unsigned long	addr;
	bool		pinned;
};

/* A command with its data in one element of a vector, of no 32-bit program. */
static int nvme_ng_find_vec(struct nvme_ng_found *f, struct nvme_ns *ns)
{
	struct iovec iov;

	if (f->len != 1 || copy_from_user(&iov, (void __user *)f->addr,
					  sizeof(iov)) ||
	    iov.iov_len > nvme_ng_max(ns->ctrl))
		return 1;
	f->addr = (unsigned long)iov.iov_base;
	f->len = iov.iov_len;
	return 0;
}

/* Do PRP 1 and 2 not reach?  A page of the kernel may be more than one. */
static bool nvme_ng_takes_list(const struct nvme_ng_found *f, bool sgl)
{
	return !sgl && f->offset % NVME_CTRL_PAGE_SIZE + f->len >
		2 * NVME_CTRL_PAGE_SIZE;
}

/*
 * Get hold of the data of a command.  Return: 0, or 1 if that takes more than
 * an address and a length, or something is wrong with it.
 */
static int nvme_ng_find_data(struct nvme_ng_found *f, struct nvme_ns *ns,
			     struct io_uring_cmd *ioucmd,
			     const struct nvme_ng_uring_cmd *sqe,
			     enum dma_data_direction dir,
			     unsigned int issue_flags)
{
	bool sgl = nvme_ng_has_sgl(ns->ctrl, ns);

	f->addr = READ_ONCE(sqe->addr);
	f->len = READ_ONCE(sqe->data_len);
	f->pinned = false;
	if (ioucmd->cmd_op == NVME_URING_CMD_IO_VEC && nvme_ng_find_vec(f, ns))
		return 1;
	if (unlikely(!f->len || f->len > NVME_NG_PIECE_MAX ||
		     f->len > nvme_ng_max(ns->ctrl) ||
		     (f->addr | f->len) & 3))
		return 1;
	if (ioucmd->flags & IORING_URING_CMD_FIXED) {
		struct iovec iov = {
			.iov_base	= (void __user *)f->addr,
			.iov_len	= f->len,
		};
		struct iov_iter iter;
		size_t at;

		if (nvme_ng_find_fixed(dir, &iov, ioucmd, issue_flags, &iter) ||
		    iter.bvec->bv_len - iter.iov_offset < f->len)
			return 1;
		at = iter.bvec->bv_offset + iter.iov_offset;
		f->page = iter.bvec->bv_page + at / PAGE_SIZE;
		f->offset = at % PAGE_SIZE;
		return f->offset & 3 || nvme_ng_takes_list(f, sgl);
	}
	f->offset = offset_in_page(f->addr);
	if (!f->addr || f->offset + f->len > PAGE_SIZE ||
	    nvme_ng_takes_list(f, sgl) ||
	    nvme_ng_pin_pages((void __user *)f->addr, 1, dir, &f->page) < 0)
		return 1;
	f->pinned = true;
	return 0;
}

/* All of a command, with @dma for its data; @q->lock is held. */
static bool nvme_ng_make_piece(struct nvme_command *cmd, struct nvme_ns *ns,
			       const struct nvme_ng_uring_cmd *sqe, u8 opcode,
			       dma_addr_t dma, u32 len)
{
	bool sgl = nvme_ng_has_sgl(ns->ctrl, ns);

	cmd->common.opcode = opcode;
	cmd->common.flags = 0;
	cmd->common.metadata = 0;
	cmd->common.dptr.prp2 = 0;
	if (!nvme_ng_copy_command(cmd, sqe, ns->head->ns_id))
		return false;
	nvme_ng_describe_one(dma, len, sgl, cmd);
	return !nvme_ng_may_exceed(ns, sgl) ||
		!nvme_ng_exceeds(ns, cmd, sgl, &len, 0);
}

/**
 * nvme_ng_lean_issue_piece - the same for memory that is no region
 * @ns: the namespace
 * @ioucmd: a command of a ring whose uring_lock is held
 * @issue_flags: as io_uring gave them
 *
 * The common case: data without metadata, in one piece of memory, which is
 * mapped already if the controller is behind an IOMMU, or else as good as mapped.
 *
 * Return: -EIOCBQUEUED, or 1 if the command takes more than that.
 */
int nvme_ng_lean_issue_piece(struct nvme_ns *ns, struct io_uring_cmd *ioucmd,
			     unsigned int issue_flags)
{
	const struct nvme_ng_uring_cmd *sqe = nvme_ng_uring_sqe(ioucmd);
	struct nvme_ng_open *open = nvme_ng_file_open(ioucmd->file);
	struct nvme_ng_pdu *pdu = nvme_ng_pdu(ioucmd);
	struct nvme_ng_mappings *all = NULL;
	struct nvme_ng_mapping *m = NULL;
	struct nvme_ng_device *device;
	struct nvme_ng_path *path;
	struct nvme_ng_lane *lane;
	struct nvme_ng_queue *q;
	struct nvme_ng_found f;
	enum dma_data_direction dir;
	struct nvme_command *cmd;
	dma_addr_t dma;
	u8 opcode;

	if (unlikely(ioucmd->cmd_op != NVME_URING_CMD_IO &&
		     ioucmd->cmd_op != NVME_URING_CMD_IO_VEC))
		return 1;
	path = open ? nvme_ng_find_path(open, ns) : NULL;
	if (unlikely(!path))
		return 1;
	device = path->device;
	if (device->keeps_mappings) {
		/* pairs with nvme_ng_alloc_mappings() */
		all = smp_load_acquire(&open->mappings);
		/* who finds no mapping is not to pin the page twice */
		if (unlikely(!all || !READ_ONCE(all->nr)))
			return 1;
	} else if (!device->maps_at_once) {
		return 1;
	}
	lane = &path->lane[!!(issue_flags & IO_URING_F_IOPOLL)];
	/* pairs with nvme_ng_claim_queue() */
	q = smp_load_acquire(&lane->queue);
	opcode = READ_ONCE(sqe->opcode);
	if (unlikely(!q || opcode >= ARRAY_SIZE(path->op) ||
		     !path->op[opcode % ARRAY_SIZE(path->op)] ||
		     READ_ONCE(sqe->metadata) || READ_ONCE(sqe->timeout_ms) ||
		     nvme_ng_uring_compat(ioucmd, issue_flags)))
		return 1;
	/* nor who finds no slot; what is registered is pinned by io_uring */
	if (!(ioucmd->flags & IORING_URING_CMD_FIXED)) {
		/* a guess, without the lock: it is looked at again below */
		if (unlikely(!data_race(nvme_ng_has_slot(q, lane))))
			return 1;
	}
	dir = nvme_ng_opcode_dir(opcode);
	if (nvme_ng_find_data(&f, ns, ioucmd, sqe, dir, issue_flags))
		return 1;

	spin_lock_irq(&q->lock);
	if (unlikely(!nvme_ng_may_issue(q, open, lane, ns->queue)))
		goto out_unlock;
	if (all) {
		m = nvme_ng_find_mapping(all, device, f.page,
					 dir != DMA_TO_DEVICE || !f.pinned);
		if (unlikely(!m || !nvme_ng_in_mapping(m, f.page, f.offset,
						       f.len)))
			goto out_exit;
		dma = nvme_ng_mapping_dma(m, f.page, f.offset);
	} else {
		dma = dma_map_page_attrs(ns->ctrl->dev, f.page, f.offset, f.len,
					 dir, NVME_NG_OVERLAP);
		if (unlikely(dma_mapping_error(ns->ctrl->dev, dma)))
			goto out_exit;
	}
	cmd = &q->sqes[q->sq_tail];
	if (unlikely(!nvme_ng_make_piece(cmd, ns, sqe, opcode, dma, f.len)))
		goto out_unmap;
	pdu->word = nvme_ng_kept_fixed();
	if (all) {
		pdu->mapping = m;
	} else {
		pdu->dma = dma;
		pdu->kept = false;
		pdu->value = f.len;
	}
	if (f.pinned) {
		pdu->data = NVME_NG_PINNED;
		pdu->pfn = page_to_pfn(f.page);
	}
	if (f.pinned || !all)
		nvme_ng_note_dir(ioucmd, dir);
	nvme_ng_take_slot(q, lane, ioucmd, cmd, ns->queue->rq_timeout);
	nvme_ng_take_off(q, pdu);
	spin_unlock_irq(&q->lock);
	return -EIOCBQUEUED;

out_unmap:
	if (!all)
		dma_unmap_page(ns->ctrl->dev, dma, f.len, dir);
out_exit:
	if (!lane->flying)
		nvme_ng_exit_lane(lane);
out_unlock:
	spin_unlock_irq(&q->lock);
	if (m)
		nvme_ng_put_mapping(m);
	if (f.pinned)
		unpin_user_page(f.page);
	return 1;
}

/* commands of an array that are copied before the queue's lock is taken */
#define NVME_NG_CHUNK		(IS_ENABLED(CONFIG_64BIT) ? 16 : 8)

/* commands of an array */
#define NVME_NG_MAX_ARRAY	4096

/**
 * struct nvme_ng_array - commands that a program hands over at once
 * @ioucmd: what stands for them
 * @open: the file
 * @lane: where they go
 * @q: its queue
 * @results: where their ends are posted
 * @timeout: the default, jiffies
 * @taken: how many were sent, or refused
 * @asks: @admin must be known for the next one
 * @asked: it is
 * @admin: the program has CAP_SYS_ADMIN
 */
struct nvme_ng_array {
	struct io_uring_cmd	*ioucmd;
	struct nvme_ng_open	*open;
	struct nvme_ng_lane	*lane;
	struct nvme_ng_queue	*q;
	struct nvme_ng_results	*results;
	unsigned int		timeout;
	int			taken;
	bool			asks;
	bool			asked;
	bool			admin;
};

/* Those with commands in flight elsewhere are not for @q, whose lock is held. */
static bool nvme_ng_claim_results(struct nvme_ng_results *r,
				  struct nvme_ng_queue *q)
{
	struct nvme_ng_queue *old = READ_ONCE(r->queue);

	/* pairs with the releases of @queue */
	return old == q || (!old && !cmpxchg_acquire(&r->queue, NULL, q));
}

/* A command that not everybody may send, or that is not sent this way. */
static noinline int nvme_ng_refuse_opcode(const struct nvme_ng_array *a,
					  const struct nvme_ng_uring_cmd *sqe)
{
	struct nvme_ns *ns = a->lane->path->ns;
	struct nvme_command cmd;

	if (!nvme_ng_copy_command(&cmd, sqe, ns->head->ns_id))
		return -EINVAL;
	return a->admin || nvme_ng_io_is_free(ns->ctrl, ns, sqe->opcode,
					      a->open->write) ?
		-EOPNOTSUPP : -EACCES;
}

/* Does it depend on CAP_SYS_ADMIN what becomes of a command? */
static __always_inline bool nvme_ng_is_special(const struct nvme_ng_path *path,
					       const struct nvme_ng_uring_cmd *sqe)
{
	u8 opcode = sqe->opcode;

	return unlikely(sqe->timeout_ms || opcode >= ARRAY_SIZE(path->op) ||
			!path->op[opcode % ARRAY_SIZE(path->op)]);
}

/* Make a command of an array.  Return: 0 or why not; the queue's lock is held. */
static __always_inline int nvme_ng_prepare_one(const struct nvme_ng_array *a,
					       struct nvme_ng_open *open,
					       struct nvme_ng_path *path,
					       const struct nvme_ng_uring_cmd *sqe,
					       struct nvme_command *cmd, u32 nsid,
					       struct nvme_ng_seen *seen)
{
	u8 opcode = sqe->opcode;
	int ret;

	if (unlikely(opcode >= ARRAY_SIZE(path->op) ||
		     !path->op[opcode % ARRAY_SIZE(path->op)]))
		return nvme_ng_refuse_opcode(a, sqe);
	cmd->common.opcode = opcode;
	if (unlikely(!nvme_ng_copy_command(cmd, sqe, nsid)))
		return -EINVAL;
	ret = nvme_ng_use_regions(open, path, sqe, cmd, seen);
	return likely(ret <= 0) ? ret : -EOPNOTSUPP;
}

/* No more are taken.  Return: whether none is in flight; @q->lock is held. */
static bool nvme_ng_close_array(const struct nvme_ng_array *a)
{
	struct nvme_ng_pdu *pdu = nvme_ng_pdu(a->ioucmd);

	pdu->taken = a->taken;
	return !--pdu->left;
}

/* Send commands of an array, up to the first for which there is no room. */
static noinline_for_stack int
nvme_ng_issue_chunk(struct nvme_ng_array *a, const struct nvme_ng_array_cmd *e,
		    unsigned int nr)
{
	const struct nvme_ng_array_cmd *begin, *end;
	struct nvme_ng_results *r = a->results;
	struct io_uring_cmd *ioucmd = a->ioucmd;
	struct nvme_ng_open *open = a->open;
	struct nvme_ng_lane *lane = a->lane;
	struct nvme_ng_path *path = lane->path;
	struct nvme_ng_seen seen = { };
	struct nvme_ng_queue *q = a->q;
	u32 nsid = path->ns->head->ns_id, room, head;
	unsigned int timeout, sent = 0;
	struct nvme_command *cmd;
	int ret;

	if (!nvme_ng_may_issue(q, open, lane, path->ns->queue))
		return 0;
	if (unlikely(!nvme_ng_claim_results(r, q))) {
		ret = -EBUSY;
		goto out;
	}
	/* pairs with what the program does once it has read its results */
	head = smp_load_acquire(&r->head->head);
	/* more than there are entries if the program got it wrong */
	room = r->mask + 1 - (r->tail + r->flying - head);
	if (room > r->mask + 1)
		room = 0;
	room = min3(room, q->free_tail - q->free_head, q->share - lane->flying);
	nr = min(nr, room);
	for (begin = e, end = e + nr; e < end; e++) {
		timeout = a->timeout;
		if (nvme_ng_is_special(path, &e->cmd)) {
			/* not to be asked with the lock */
			if (!a->asked)
				break;
			if (e->cmd.timeout_ms)
				timeout = nvme_ng_user_timeout(path->ns->queue,
							       e->cmd.timeout_ms,
							       a->admin);
		}
		cmd = &q->sqes[q->sq_tail];
		ret = nvme_ng_prepare_one(a, open, path, &e->cmd, cmd, nsid,
					  &seen);
		if (unlikely(ret)) {
			nvme_ng_post(r, e->tag, ret, 0);
			continue;
		}
		nvme_ng_take_slot(q, lane, ioucmd, cmd, timeout)->tag = e->tag;
		sent++;
	}
	ret = e - begin;
	if (e < end)
		a->asks = true;
	if (sent) {
		r->flying += sent;
		nvme_ng_pdu(ioucmd)->left += sent;
		/* not with a plug: the array may end, and the file, before it */
		nvme_ng_ring_sq(q);
		if (unlikely(!q->ticking))
			nvme_ng_start_tick(q);
	} else if (!r->flying) {
		/* pairs with nvme_ng_claim_results() */
		smp_store_release(&r->queue, NULL);
	}
out:
	if (!lane->flying)
		nvme_ng_exit_lane(lane);
	return ret;
}

/*
 * copy_from_user() takes an instruction for each byte on some processors, and
 * more for a few.  Sleeps.
 */
static bool nvme_ng_copy_chunk(struct nvme_ng_array_cmd *to,
			       const struct nvme_ng_array_cmd __user *from,
			       unsigned int nr)
{
	const u64 __user *src = (const u64 __user *)from;
	size_t len = nr * sizeof(*to);
	u64 *dst = (u64 *)to, *end = dst + len / sizeof(u64);

	if (!user_read_access_begin(from, len))
		return false;
	for (; dst < end; dst += 11, src += 11) {
		unsafe_get_user(dst[0], &src[0], out);
		unsafe_get_user(dst[1], &src[1], out);
		unsafe_get_user(dst[2], &src[2], out);
		unsafe_get_user(dst[3], &src[3], out);
		unsafe_get_user(dst[4], &src[4], out);
		unsafe_get_user(dst[5], &src[5], out);
		unsafe_get_user(dst[6], &src[6], out);
		unsafe_get_user(dst[7], &src[7], out);
		unsafe_get_user(dst[8], &src[8], out);
		unsafe_get_user(dst[9], &src[9], out);
		unsafe_get_user(dst[10], &src[10], out);
	}
	user_read_access_end();
	return true;
out:
	user_read_access_end();
	return false;
}

/* Why an array finds no queue: for now, or for good. */
static int nvme_ng_why_none(struct nvme_ng_path *path, bool polled)
{
	struct nvme_ng_device *device = path->device;
	struct nvme_ng_queue *q;
	int ret = -EOPNOTSUPP;

	mutex_lock(&device->lock);
	list_for_each_entry(q, &device->queues, on_device)
		if (q->polled == polled)
			ret = -EAGAIN;
	mutex_unlock(&device->lock);
	return nvme_ng_is_going(path->ns->ctrl) ? -ENODEV : ret;
}

/**
 * nvme_ng_issue_array - NVME_NG_URING_CMD_ARRAY
 * @ns: the namespace
 * @ioucmd: the command
 * @issue_flags: as io_uring gave them
 *
 * The queue's lock is not held while the array is read, and then all commands
 * that were taken are known to the controller.  Sleeps.
 *
 * Return: -EIOCBQUEUED or a negative errno.
 */
int nvme_ng_issue_array(struct nvme_ns *ns, struct io_uring_cmd *ioucmd,
			unsigned int issue_flags)
{
	const struct nvme_ng_uring_array *sqe =
		(const void *)nvme_ng_uring_sqe(ioucmd);
	struct nvme_ng_array a = {
		.ioucmd		= ioucmd,
		.open		= nvme_ng_file_open(ioucmd->file),
		.timeout	= ns->queue->rq_timeout,
	};
	struct nvme_ng_pdu *pdu = nvme_ng_pdu(ioucmd);
	struct nvme_ng_array_cmd chunk[NVME_NG_CHUNK] __uninitialized;
	struct nvme_ng_array_cmd __user *from;
	int nr = READ_ONCE(sqe->nr), n;
	struct nvme_ng_path *path;
	bool ended = false;
	unsigned int i;
	u64 rsvd = 0;
	int ret = 0;

	BUILD_BUG_ON(sizeof(chunk[0]) != 88);
	BUILD_BUG_ON(sizeof(*sqe) != sizeof(struct nvme_ng_uring_cmd));
	for (i = 0; i < ARRAY_SIZE(sqe->rsvd); i++)
		rsvd |= READ_ONCE(sqe->rsvd[i]);
	if (rsvd || READ_ONCE(sqe->flags) || nr < 1 || nr > NVME_NG_MAX_ARRAY ||
	    READ_ONCE(sqe->cmd_size) != sizeof(chunk[0]) ||
	    ioucmd->flags & IORING_URING_CMD_FIXED)
		return -EINVAL;
	from = u64_to_user_ptr(READ_ONCE(sqe->addr));
	if ((uintptr_t)from % sizeof(u64))
		return -EINVAL;
	a.results = a.open ?
		nvme_ng_find_results(a.open, READ_ONCE(sqe->ring)) : NULL;
	if (!a.results)
		return -ENOENT;
	path = nvme_ng_get_path(a.open, ns);
	if (IS_ERR(path)) {
		ret = PTR_ERR(path);
		goto out_refuse;
	}
	a.lane = &path->lane[!!(issue_flags & IO_URING_F_IOPOLL)];
	/* pairs with nvme_ng_claim_queue() */
	a.q = smp_load_acquire(&a.lane->queue);
	if (!a.q)
		a.q = nvme_ng_claim_queue(a.lane,
					  issue_flags & IO_URING_F_IOPOLL, true);
	if (!a.q) {
		ret = nvme_ng_why_none(path, issue_flags & IO_URING_F_IOPOLL);
		goto out_refuse;
	}
	pdu->lean = a.q;
	pdu->q = NULL;
	pdu->results = a.results;
	pdu->word = NVME_NG_REGION;
	pdu->kept = true;
	pdu->left = 1;

	while (a.taken < nr && ret >= 0) {
		n = min(nr - a.taken, NVME_NG_CHUNK);
		if (fatal_signal_pending(current))
			ret = -EINTR;
		else if (!nvme_ng_copy_chunk(chunk, from + a.taken, n))
			ret = -EFAULT;
		spin_lock_irq(&a.q->lock);
		if (ret >= 0)
			ret = nvme_ng_issue_chunk(&a, chunk, n);
		if (ret > 0)
			a.taken += ret;
		if (ret >= 0 && ret < n && !a.asks)
			ret = -EAGAIN;
		if (ret < 0 || a.taken == nr)
			ended = nvme_ng_close_array(&a);
		spin_unlock_irq(&a.q->lock);
		if (unlikely(a.asks) && !a.asked) {
			a.admin = capable(CAP_SYS_ADMIN);
			a.asked = true;
			a.asks = false;
		}
		cond_resched();
	}
	/* from here on it may have ended elsewhere */
	if (!ended)
		return -EIOCBQUEUED;
	if (a.taken)
		ret = a.taken;
	else if (ret == -EAGAIN && nvme_ng_is_going(ns->ctrl))
		ret = -ENODEV;
out_refuse:
	/* returned, -EAGAIN would make io_uring try again, and again */
	nvme_ng_uring_done(ioucmd, ret, 0, issue_flags);
	return -EIOCBQUEUED;
}

/* How many queues there are, and those of a path with its commands in flight. */
static void nvme_ng_show_path(struct seq_file *m, struct nvme_ng_path *path)
{
	const char *name = dev_name(path->ns->ctrl->device);
	struct nvme_ng_device *device = path->device;
	struct nvme_ng_queue *q;
	unsigned int i, nr = 0;

	/* a reset may have left some without use */
	mutex_lock(&device->lock);
	list_for_each_entry(q, &device->queues, on_device)
		nr += READ_ONCE(q->live);
	mutex_unlock(&device->lock);
	seq_printf(m, "nvme-ring-queues:\t%s %u\n", name, nr);
	for (i = 0; i < ARRAY_SIZE(path->lane); i++) {
		struct nvme_ng_lane *lane = &path->lane[i];

		/* pairs with nvme_ng_claim_queue() */
		q = smp_load_acquire(&lane->queue);
		if (q && READ_ONCE(q->live))
			seq_printf(m, "nvme-ring-queue:\t%s %u %s %u\n", name,
				   q->qid, q->polled ? "polled" : "interrupt",
				   READ_ONCE(lane->flying));
	}
}

/**
 * nvme_ng_show_lanes - tell what commands of a file are spared
 * @m: /proc/PID/fdinfo/FD
 * @open: the file
 *
 * Mappings that are kept, and queues that blk-mq does not know.  Sleeps.
 */
void nvme_ng_show_lanes(struct seq_file *m, struct nvme_ng_open *open)
{
	/* pairs with nvme_ng_alloc_mappings() */
	const struct nvme_ng_mappings *all = smp_load_acquire(&open->mappings);
	struct nvme_ng_path *path;

	seq_printf(m, "nvme-mappings:\t%u\n", all ? READ_ONCE(all->nr) : 0);
	nvme_ng_show_results(m, open);
	/* they are only added */
	for (path = rcu_dereference_check(open->paths, 1); path;
	     path = rcu_dereference_check(path->next, 1))
		nvme_ng_show_path(m, path);
}

/**
 * nvme_ng_lean_poll - look for completions
 * @ioucmd: a command that nvme_ng_lean_issue() has issued
 * @poll_flags: BLK_POLL_* flags
 *
 * The uring_lock of the command's ring is held.  Another ring, or the tick, may
 * complete the command meanwhile.
 *
 * Return: more than 0 if there were any.
 */
int nvme_ng_lean_poll(struct io_uring_cmd *ioucmd, unsigned int poll_flags)
{
	struct nvme_ng_pdu *pdu = nvme_ng_pdu(ioucmd);
	const void *ring = nvme_ng_uring_ctx(ioucmd);
	struct io_uring_cmd *ended = NULL;
	unsigned long until = jiffies + 1;
	struct nvme_ng_queue *q;
	int n;

	do {
		/* the file has the queue for as long as it is open */
		q = READ_ONCE(pdu->lean);
		if (unlikely(!q))
			return 1;
		n = 0;
		/* who has the lock reaps, or sends: do not keep it from that */
		if (likely(spin_trylock_irq(&q->lock))) {
			if (likely(q->live))
				n = nvme_ng_reap(q, ring, &ended);
			spin_unlock_irq(&q->lock);
		}
		while (unlikely(ended)) {
			struct io_uring_cmd *this = ended;

			ended = nvme_ng_pdu(this)->next;
			nvme_ng_uring_end(this, 0);
		}
		if (n || poll_flags & BLK_POLL_ONESHOT)
			return n;
		if (signal_pending(current))
			return 1;
		cpu_relax();
		/* a later command of this ring may be complete by now */
	} while (!need_resched() && time_before(jiffies, until));
	return 0;
}

/**
 * nvme_ng_queue_irq - complete what the controller has completed
 * @q: a queue with interrupts
 *
 * Hard interrupt.  Return: whether there was anything.
 */
bool nvme_ng_queue_irq(struct nvme_ng_queue *q)
{
	unsigned int n, all = 0;

	do {
		spin_lock(&q->lock);
		n = q->cqes ? nvme_ng_reap(q, NULL, NULL) : 0;
		spin_unlock(&q->lock);
		all += n;
	} while (n == NVME_NG_REAP);
	return all;
}
EXPORT_SYMBOL_GPL(nvme_ng_queue_irq);

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

/* There was no Abort after all. */
static void nvme_ng_not_aborted(struct nvme_ng_queue *q,
				struct nvme_ng_slot *slot)
{
	spin_lock_irq(&q->lock);
	slot->abort = NVME_NG_NO_ABORT;
	if (slot->held) {
		slot->held = false;
		q->nr_held--;
		nvme_ng_free_cid(q, slot->cid);
	}
	spin_unlock_irq(&q->lock);
}

/* Ask the controller to give up a command, whose slot is not free until then. */
static void nvme_ng_abort(struct nvme_ng_queue *q, u16 cid)
{
	struct nvme_ctrl *ctrl = q->device->ctrl;
	struct nvme_command c = {
		.abort.opcode	= nvme_admin_abort_cmd,
		.abort.sqid	= cpu_to_le16(q->qid),
		.abort.cid	= cid,
	};
	struct request *req;

	req = blk_mq_alloc_request(ctrl->admin_q, nvme_req_op(&c),
				   BLK_MQ_REQ_NOWAIT);
	if (IS_ERR(req)) {
		atomic_inc(&ctrl->abort_limit);
		nvme_ng_not_aborted(q, &q->slots[cid & q->cid_mask]);
		return;
	}
	nvme_init_request(req, &c);
	kref_get(&q->ref);
	req->end_io = nvme_ng_abort_end;
	req->end_io_data = q;
	blk_execute_rq_nowait(req, false);
}

/* what to do about a command, beside an identifier to abort */
enum {
	NVME_NG_WAIT	= -1,
	NVME_NG_RESET	= -2,
};

/*
 * A command takes too long: it is aborted first, and the second time only a
 * reset helps.  @q->lock is held.
 */
static int nvme_ng_expire(struct nvme_ng_queue *q, struct nvme_ng_slot *slot)
{
	struct nvme_ctrl *ctrl = q->device->ctrl;

	/* a reset would end the recovery of the link, and the device with it */
	if (q->ops->is_frozen(q->priv)) {
		slot->deadline = jiffies + slot->timeout;
		return NVME_NG_WAIT;
	}
	if (slot->abort != NVME_NG_NO_ABORT || nvme_ng_is_dead(ctrl)) {
		dev_warn_ratelimited(ctrl->device,
				     "command %#x of queue %u timeout, reset controller\n",
				     slot->cid, q->qid);
		return NVME_NG_RESET;
	}
	slot->deadline = jiffies + slot->timeout;
	/* where there are too many aborts already, wait for them */
	if (atomic_dec_return(&ctrl->abort_limit) < 0) {
		atomic_inc(&ctrl->abort_limit);
		return NVME_NG_WAIT;
	}
	slot->abort = NVME_NG_ABORTING;
	dev_warn_ratelimited(ctrl->device,
			     "command %#x of queue %u timeout, aborting\n",
			     slot->cid, q->qid);
	return slot->cid;
}

/* Look at the deadlines from @from on; @q->lock is held. */
static int nvme_ng_check_deadlines(struct nvme_ng_queue *q, u16 *from)
{
	int ret = NVME_NG_WAIT;

	for (; ret == NVME_NG_WAIT && *from < q->nr_slots; ++*from) {
		struct nvme_ng_slot *slot = &q->slots[*from];

		if (!slot->ioucmd || !time_after(jiffies, slot->deadline))
			continue;
		/* the controller may not be late at all */
		nvme_ng_reap_elsewhere(q);
		/* which may have let others in */
		if (!q->live)
			break;
		if (slot->ioucmd && time_after(jiffies, slot->deadline))
			ret = nvme_ng_expire(q, slot);
	}
	return ret;
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

static void nvme_ng_reset_work(struct work_struct *work)
{
	struct nvme_ng_queue *q = container_of(work, struct nvme_ng_queue,
					       reset);
	struct nvme_ctrl *ctrl = q->device->ctrl;

	if (nvme_reset_ctrl(ctrl) && nvme_ng_is_going(ctrl))
		q->ops->disable(q->priv);
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
		nvme_ng_reap_elsewhere(q);
		q->seen = NVME_NG_EMPTY;
	}
}

/* While commands are in flight; does not sleep. */
static void nvme_ng_tick(struct work_struct *work)
{
	struct nvme_ng_queue *q = container_of(to_delayed_work(work),
					       struct nvme_ng_queue, tick);
	u16 from = 0;
	int cid;

again:
	cid = NVME_NG_WAIT;
	spin_lock_irq(&q->lock);
	if (q->live && (from || time_after(jiffies, q->clock))) {
		q->clock = jiffies + NVME_NG_CLOCK;
		cid = nvme_ng_check_deadlines(q, &from);
	}
	if (cid >= 0) {
		spin_unlock_irq(&q->lock);
		nvme_ng_abort(q, cid);
		goto again;
	}
	if (cid == NVME_NG_RESET)
		queue_work(nvme_reset_wq, &q->reset);
	if (q->live) {
		/* who has the plug may have been preempted */
		if (q->plugged)
			nvme_ng_ring_sq(q);
		nvme_ng_reap_stale(q);
	}
	if (q->nr_held)
		nvme_ng_release_held(q);
	q->deaf = !nvme_ng_hears(q);
	q->ticking = q->live && (!nvme_ng_is_idle(q) || q->nr_held);
	if (q->ticking)
		queue_delayed_work(nvme_wq, &q->tick, NVME_NG_TICK);
	spin_unlock_irq(&q->lock);
}

/**
 * nvme_ng_add_queue - offer a queue pair to rings
 * @ctrl: the controller
 * @qid: Queue Identifier
 * @depth: entries of each of the two, from 2 to 4096 so that 4 bits of an
 *	identifier or more are its generation
 * @polled: the controller does not interrupt
 * @ops: doorbells
 * @priv: for @ops
 *
 * Return: the queue, not live yet, or NULL.
 */
struct nvme_ng_queue *nvme_ng_add_queue(struct nvme_ctrl *ctrl, u16 qid,
					u32 depth, bool polled,
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
	q->polled = polled;
	q->ops = ops;
	q->priv = priv;
	q->depth = depth;
	q->nr_slots = depth - 1;
	q->share = q->nr_slots;
	nr = roundup_pow_of_two(q->nr_slots);
	q->cid_mask = nr - 1;
	q->slots = kvcalloc(nr, sizeof(*q->slots), GFP_KERNEL);
	q->free = kvcalloc(nr, sizeof(*q->free), GFP_KERNEL);
	q->cpus = kzalloc(cpumask_size(), GFP_KERNEL);
	if (!q->slots || !q->free || !q->cpus || depth > NVME_NG_MAX_DEPTH) {
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
 * @depth: entries of each
 * @polled: the controller does not interrupt; the queue stays stopped if it is
 *	another one than before, in this or the depth
 * @cpus: CPUs of its vector, or NULL: all
 * @sqes: submission queue, as it was created
 * @cqes: completion queue, all zero
 */
void nvme_ng_start_queue(struct nvme_ng_queue *q, u32 depth, bool polled,
			 const struct cpumask *cpus, struct nvme_command *sqes,
			 struct nvme_completion *cqes)
{
	spin_lock_irq(&q->lock);
	cpumask_copy(q->cpus, cpus ?: cpu_possible_mask);
	q->deaf = false;
	q->sqes = sqes;
	q->cqes = cqes;
	q->sq_tail = 0;
	q->sq_rung = 0;
	q->cq_head = 0;
	q->phase = 1;
	q->live = depth == q->depth && polled == q->polled;
	if (q->nr_held)
		nvme_ng_release_held(q);
	spin_unlock_irq(&q->lock);
}
EXPORT_SYMBOL_GPL(nvme_ng_start_queue);

/**
 * nvme_ng_stop_queue - let no command in any more
 * @q: the queue
 */
void nvme_ng_stop_queue(struct nvme_ng_queue *q)
{
	spin_lock_irq(&q->lock);
	q->live = false;
	spin_unlock_irq(&q->lock);
}
EXPORT_SYMBOL_GPL(nvme_ng_stop_queue);

/**
 * nvme_ng_cancel_queue - complete all commands in flight
 * @q: the queue, stopped, of a controller that does not touch memory any more
 *
 * Commands that the controller has not completed end with -EINTR.
 */
void nvme_ng_cancel_queue(struct nvme_ng_queue *q)
{
	unsigned int n = 0;
	u16 i;

	spin_lock_irq(&q->lock);
	/* it may not have been started since the last reset */
	if (q->cqes)
		nvme_ng_reap_elsewhere(q);
	for (i = 0; i < q->nr_slots; i++) {
		struct nvme_ng_slot *slot = &q->slots[i];
		struct io_uring_cmd *ioucmd = slot->ioucmd;
		int status = -EINTR;
		u64 result = 0;

		if (!ioucmd)
			continue;
		nvme_ng_end_slot(q, slot, slot->cid);
		if (!nvme_ng_is_array(nvme_ng_pdu(ioucmd)) ||
		    nvme_ng_end_of_array(nvme_ng_pdu(ioucmd), slot, &status,
					 &result))
			nvme_ng_end_slowly(q, ioucmd, status, result, NULL,
					   NULL);
		if (++n % NVME_NG_REAP)
			continue;
		spin_unlock_irq(&q->lock);
		cond_resched();
		spin_lock_irq(&q->lock);
	}
	q->cqes = NULL;
	spin_unlock_irq(&q->lock);
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
