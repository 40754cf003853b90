/* SPDX-License-Identifier: GPL-2.0 */
/*
 * nvme-ng: memory that is mapped for DMA before the commands that use it, and
 * queue pairs that blk-mq does not know.
 *
 * open file -> regions: table of handles, changed under nvme_ng_open.lock,
 *		read under RCU
 *	     -> paths: the namespaces that its commands went to, one unless it
 *		is a multipath head; only added to, under nvme_ng_open.lock
 *	     -> epoch: holds unmapped regions until no command can use them
 * region    -> views: how each controller sees the region
 * device    -> views and queues of a controller; they end with it
 */
#ifndef _NVME_NG_REGION_H
#define _NVME_NG_REGION_H

#include <linux/rwsem.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/nospec.h>
#include <linux/nvme_ioctl.h>
#include <linux/workqueue.h>
#ifdef NVME_NG_FIXED
#include <linux/io_uring/buf.h>
#endif
#include "ng.h"

/* the last entry of a page points to the next one */
#define NVME_NG_PRPS	(NVME_CTRL_PAGE_SIZE / sizeof(__le64) - 1)

/* bytes of a piece of memory: a length that is added to does not overflow */
#define NVME_NG_MAX_SEGMENT	SZ_1G

struct dma_buf;
struct mm_struct;
struct nvme_ng_attach;
struct nvme_ng_mappings;
struct nvme_ng_queue;
struct nvme_ng_results;
struct seq_file;
struct user_struct;

/**
 * struct nvme_ng_device - what commands of many files share on a controller
 * @ref: held by the controller, by each view and by each path
 * @ctrl: the controller, not to be used when @gone
 * @mapping: held for reading to map or unmap, for writing to set @gone; who
 *	has it does not wait for a program
 * @lock: protects @views and @queues; what takes time is done without
 * @views: regions that are mapped for the device
 * @attached: dma-bufs that are, struct nvme_ng_attach; see there
 * @mappings: folios that stay mapped, struct nvme_ng_mapping
 * @keeps_mappings: of what commands use again
 * @maps_at_once: nothing has to be made or copied to map memory
 * @queues: queues that rings can have, struct nvme_ng_queue
 * @gone: the controller is being removed: nothing is mapped any more
 */
struct nvme_ng_device {
	struct kref		ref;
	struct nvme_ctrl	*ctrl;
	struct rw_semaphore	mapping;
	struct mutex		lock;	/* @views, @queues */
	struct list_head	views;
	struct list_head	attached;
	struct list_head	mappings;
	bool			keeps_mappings;
	bool			maps_at_once;
	struct list_head	queues;
	bool			gone;
};

/**
 * struct nvme_ng_prps - PRP entries for a whole region
 * @nr: pages of entries
 * @page: the entries as the driver and as the device see them
 *
 * The last of the entries in a page points to the next page.
 */
struct nvme_ng_prps {
	unsigned int nr;
	struct {
		__le64		*entry;
		dma_addr_t	dma;
	} page[];
};

/**
 * struct nvme_ng_view - a region as one controller sees it
 * @next: another controller's view of it
 * @match: the controller, NULL once the exporter has taken the memory back: no
 *	command finds the view
 * @device: the controller
 * @on_device: in &nvme_ng_device.views, protected by its lock
 * @len: bytes
 * @offset: of the first byte in its page
 * @dma: where the region begins, if @one
 * @one: the region is one piece for the controller
 * @sgl: the controller takes a data block of any length
 * @read_only: the controller must not write
 * @align: bits that must be clear in the address and length of a data block
 * @prps: entry for each page of the region, unless @one and @sgl; the second
 *	table has its page ends elsewhere, and is there for large regions
 * @sgt: memory and DMA addresses; of a dma-buf only while the view is made
 * @attach: attachment to a dma-buf, or NULL
 * @on_attach: in &nvme_ng_attach.views
 */
struct nvme_ng_view {
	struct nvme_ng_view __rcu	*next;
	const struct nvme_ng_device	*match;
	u64				len;
	u32				offset;
	dma_addr_t			dma;
	bool				one;
	bool				sgl;
	bool				read_only;
	u8				align;
	struct nvme_ng_prps		*prps[2];
	struct nvme_ng_device		*device;
	struct list_head		on_device;
	struct sg_table			*sgt;
	struct nvme_ng_attach		*attach;
	struct list_head		on_attach;
};

/**
 * struct nvme_ng_locked - memory that a user has locked
 * @user: who is charged for it, or NULL
 * @mm: whose memory is pinned
 * @pages: how many
 */
struct nvme_ng_locked {
	struct user_struct	*user;
	struct mm_struct	*mm;
	unsigned long		pages;
};

/**
 * struct nvme_ng_dead - what ends with an epoch
 * @list: in &nvme_ng_epoch.dead
 * @ended: tells that no command uses it, in any context; or NULL, also once
 *	that was told
 * @free: lets it go, once @ended was called for all of the epoch; sleeps
 */
struct nvme_ng_dead {
	struct list_head	list;
	void			(*ended)(struct nvme_ng_dead *dead);
	void			(*free)(struct nvme_ng_dead *dead);
};

/**
 * struct nvme_ng_region - memory of a program
 * @views: one for each path of the open file
 * @len: bytes
 * @offset: of the first byte in the first page, or in the dma-buf
 * @read_only: devices must not write
 * @mem: pinned pages; the first view uses this table, others have copies
 * @mem_used: @mem has its view
 * @locked: who is charged for @mem
 * @epoch: the epoch that begins when the region is unmapped
 * @dmabuf: the dma-buf, in place of @mem
 * @open: the file, a reference
 * @dead: in &nvme_ng_epoch.dead
 */
struct nvme_ng_region {
	struct nvme_ng_view __rcu	*views;
	u64				len;
	u64				offset;
	bool				read_only;
	bool				mem_used;
	struct sg_append_table		mem;
	struct nvme_ng_locked		locked;
	struct nvme_ng_epoch		*epoch;
	struct dma_buf			*dmabuf;
	struct nvme_ng_open		*open;
	struct nvme_ng_dead		dead;
};

/**
 * struct nvme_ng_epoch - the commands between two calls to unmap a region
 * @ref: one of each command, one while it is the current epoch, one of the
 *	epoch before
 * @dead: what was unmapped at its end, struct nvme_ng_dead
 * @next: the epoch after it
 * @work: ends the epochs after it, lets @dead go
 * @rcu: for kfree_rcu()
 *
 * A region may be used by commands of the epoch in which it was unmapped and
 * of any before.
 */
struct nvme_ng_epoch {
	refcount_t		ref;
	struct list_head	dead;
	struct nvme_ng_epoch	*next;
	struct work_struct	work;
	struct rcu_head		rcu;
};

/**
 * struct nvme_ng_table - regions by their handle
 * @nr: number of entries
 * @rcu: for kvfree_rcu()
 * @region: the entries, NULL where there is none; 0 is never used
 */
struct nvme_ng_table {
	unsigned int			nr;
	struct rcu_head			rcu;
	struct nvme_ng_region __rcu	*region[];
};

/* what is known about an opcode, &nvme_ng_path.op */
#define NVME_NG_OP_ALLOWED	1	/* no capability is needed */

/**
 * struct nvme_ng_lane - commands of one file to one namespace on one queue
 * @path: the file's way to the namespace
 * @queue: queue pair that blk-mq does not know, or NULL; set once, under
 *	&nvme_ng_device.lock
 * @flying: commands in @queue, protected by the queue's lock; while there are
 *	any they hold @epoch and a reference to the namespace's request queue
 * @epoch: in which all commands in @queue are
 */
struct nvme_ng_lane {
	struct nvme_ng_path	*path;
	struct nvme_ng_queue	*queue;
	unsigned int		flying;
	struct nvme_ng_epoch	*epoch;
};

/**
 * struct nvme_ng_path - commands of one file to one namespace
 * @next: another namespace behind the same head
 * @ns: the namespace; a reference is held
 * @device: its controller
 * @lane: those that end in the interrupt, and those that a ring polls for
 * @op: NVME_NG_OP_* of each opcode below 80h
 */
struct nvme_ng_path {
	struct nvme_ng_path __rcu	*next;
	struct nvme_ns			*ns;
	struct nvme_ng_device		*device;
	struct nvme_ng_lane		lane[2];
	u8				op[128];
};

/**
 * struct nvme_ng_open - an open node on which regions were mapped
 * @ref: held by the open file, by each region and each attachment to a dma-buf
 * @lock: held to change anything but the next two
 * @table: regions
 * @next: handles below this one are in use
 * @epoch: the current epoch, freed under RCU; NULL once the file is closed
 * @epoch_lock: held to change @epoch, and what is on its list
 * @attached: dma-bufs, struct nvme_ng_attach; see there
 * @regions: how many there are, with those that wait for a command to end
 * @paths: namespaces
 * @mappings: of memory that commands use again, or NULL; set once
 * @results: completion rings by their handle less 1, or NULL; set once
 * @write: the node is open for writing
 */
struct nvme_ng_open {
	struct kref			ref;
	struct mutex			lock;	/* most changes */
	struct nvme_ng_table __rcu	*table;
	u32				next;
	struct nvme_ng_epoch		*epoch;
	spinlock_t			epoch_lock;	/* @epoch */
	struct list_head		attached;
	atomic_t			regions;
	struct nvme_ng_path __rcu	*paths;
	struct nvme_ng_mappings		*mappings;
	struct nvme_ng_results		**results;
	bool				write;
};

/* Also with preemption off, as under a spinlock. */
#define nvme_ng_rcu(p)	rcu_dereference_check(p, rcu_read_lock_sched_held())

/* Paths are only added, and go with the open file. */
static inline struct nvme_ng_path *nvme_ng_find_path(struct nvme_ng_open *open,
						     struct nvme_ns *ns)
{
	struct nvme_ng_path *p;

	for (p = rcu_dereference_check(open->paths, 1); p;
	     p = rcu_dereference_check(p->next, 1))
		if (p->ns == ns)
			break;
	return p;
}

/* Who sees an epoch does not see the regions unmapped before it. */
static inline struct nvme_ng_epoch *nvme_ng_epoch(struct nvme_ng_open *open)
{
	/* pairs with the release in nvme_ng_retire() */
	return smp_load_acquire(&open->epoch);
}

/* Enter the current epoch.  RCU. */
static inline struct nvme_ng_epoch *nvme_ng_enter(struct nvme_ng_open *open)
{
	struct nvme_ng_epoch *epoch;

	do {
		epoch = nvme_ng_epoch(open);
	} while (unlikely(!refcount_inc_not_zero(&epoch->ref)));
	return epoch;
}

void nvme_ng_leave_last(struct nvme_ng_epoch *epoch);

/* Leave it.  Any context. */
static inline void nvme_ng_leave(struct nvme_ng_epoch *epoch)
{
	if (unlikely(refcount_dec_and_test(&epoch->ref)))
		nvme_ng_leave_last(epoch);
}

/*
 * The region of a handle as @device sees it, or NULL.  RCU, after
 * nvme_ng_enter(); valid until nvme_ng_leave().
 */
static inline struct nvme_ng_view *
nvme_ng_find_view(struct nvme_ng_open *open, struct nvme_ng_device *device,
		  u32 handle)
{
	struct nvme_ng_table *table = nvme_ng_rcu(open->table);
	struct nvme_ng_region *region;
	struct nvme_ng_view *view;

	if (unlikely(handle >= table->nr))
		return NULL;
	handle = array_index_nospec(handle, table->nr);
	region = nvme_ng_rcu(table->region[handle]);
	if (unlikely(!region))
		return NULL;
	for (view = nvme_ng_rcu(region->views); view; view = nvme_ng_rcu(view->next))
		if (READ_ONCE(view->match) == device)
			break;
	return view;
}

/* Is that part in the region, and may the device do this with it? */
static inline bool nvme_ng_in_view(const struct nvme_ng_view *view, u64 offset,
				   u32 len, u8 opcode)
{
	return len <= view->len && offset <= view->len - len &&
		!(view->read_only && (opcode & 3) != 1);
}

/* Is any part of the region described by an address and a length? */
static inline bool nvme_ng_view_is_block(const struct nvme_ng_view *view)
{
	return view->one && view->sgl;
}

/* index / NVME_NG_PRPS, exact for the pages of the longest region */
static inline u32 nvme_ng_prp_page(u32 index)
{
	return (u64)index * DIV_ROUND_UP(1ULL << 40, NVME_NG_PRPS) >> 40;
}

/* Where a table has the entry of a page */
static inline __le64 *nvme_ng_prp(const struct nvme_ng_prps *prps, u32 index,
				  dma_addr_t *dma)
{
	u32 page = nvme_ng_prp_page(index);
	u32 slot = index - page * NVME_NG_PRPS;

	if (dma)
		*dma = prps->page[page].dma + slot * sizeof(__le64);
	return &prps->page[page].entry[slot];
}

/*
 * Describe a part of a region, which takes the same time for any length.
 *
 * Return: the flags of the command, with NVME_CMD_SGL_METABUF if the length is
 * part of the description; 0 if that is left to nvme_ng_use_prps(); -EINVAL
 * where the controller cannot take the address or the length.
 */
static inline int nvme_ng_span(const struct nvme_ng_view *view, u64 offset,
			       u32 len, union nvme_data_ptr *dptr)
{
	u64 at = view->offset + offset;
	dma_addr_t dma = view->dma + offset;
	bool block = view->one;

	if (!block && at % NVME_CTRL_PAGE_SIZE + len <= NVME_CTRL_PAGE_SIZE) {
		block = true;
		dma = le64_to_cpu(*nvme_ng_prp(view->prps[0],
					       at / NVME_CTRL_PAGE_SIZE, NULL)) +
			at % NVME_CTRL_PAGE_SIZE;
	}
	if (likely(block && view->sgl)) {
		if (unlikely((at | len) & view->align))
			return -EINVAL;
		nvme_ng_sgl_set(&dptr->sgl, dma, len, NVME_SGL_FMT_DATA_DESC);
		return NVME_CMD_SGL_METABUF;
	}
	return at & 3 ? -EINVAL : 0;
}

int nvme_ng_use_meta(struct nvme_ng_open *open, struct nvme_ng_path *path,
		     const struct nvme_ng_uring_cmd *sqe, u32 len,
		     struct nvme_command *cmd);

/* Must the command be looked at by nvme_ng_exceeds()? */
static inline bool nvme_ng_may_exceed(struct nvme_ns *ns, bool block)
{
	return !block || !nvme_ng_format_is_plain(nvme_ng_block_format(ns));
}

int nvme_ng_exceeds(struct nvme_ns *ns, struct nvme_command *cmd, bool block,
		    u32 *len, u32 meta_len);
int nvme_ng_use_prps(struct nvme_ns *ns, const struct nvme_ng_view *view,
		     u64 offset, u32 len, u32 meta_len,
		     struct nvme_command *cmd);

/* The region that the command before had, if any, while RCU is held */
struct nvme_ng_seen {
	u32			handle;
	struct nvme_ng_view	*view;
};

/*
 * Fill in the data and metadata pointers of a command.
 *
 * @open is the file, whose epoch the caller is in, @path where the command goes.
 * Each field of @sqe is read once.  @seen is for commands of an array, or NULL.
 * RCU.
 *
 * Return: 0; 1 if the data can only be described by a list, or only be
 * sent with privilege; -ENOENT, -EFAULT or -EINVAL, see <linux/nvme_ng.h>.
 */
static __always_inline int
nvme_ng_use_regions(struct nvme_ng_open *open, struct nvme_ng_path *path,
		    const struct nvme_ng_uring_cmd *sqe,
		    struct nvme_command *cmd, struct nvme_ng_seen *seen)
{
	u32 len = READ_ONCE(sqe->data_len);
	u32 meta_len = READ_ONCE(sqe->metadata_len);
	u8 opcode = cmd->common.opcode;
	struct nvme_ng_view *view = NULL;
	u64 offset = READ_ONCE(sqe->addr);
	struct nvme_ns *ns = path->ns;
	bool block;
	u32 handle;
	int ret;

	cmd->common.metadata = 0;
	if (likely(len)) {
		if (len > nvme_ng_max(ns->ctrl))
			return -EINVAL;
		handle = READ_ONCE(sqe->region);
		if (seen && likely(seen->view && handle == seen->handle)) {
			view = seen->view;
		} else {
			view = nvme_ng_find_view(open, path->device, handle);
			if (unlikely(!view))
				return -ENOENT;
			if (seen)
				*seen = (struct nvme_ng_seen){ handle, view };
		}
		if (unlikely(!nvme_ng_in_view(view, offset, len, opcode)))
			return -EFAULT;
		ret = nvme_ng_span(view, offset, len, &cmd->common.dptr);
		/* a Scatter Gather List may take what PRP entries cannot */
		if (unlikely(ret < 0))
			return view->sgl ? 1 : ret;
		cmd->common.flags = ret;
		block = ret;
	} else {
		block = nvme_ng_has_sgl(ns->ctrl, ns);
		nvme_ng_describe_nothing(block, cmd);
	}
	if (unlikely(meta_len)) {
		ret = nvme_ng_use_meta(open, path, sqe, meta_len, cmd);
		if (ret)
			return ret;
	}
	/* what is not described with a length must not be exceeded */
	if (unlikely(nvme_ng_may_exceed(ns, block)))
		return nvme_ng_use_prps(ns, view, offset, len, meta_len, cmd);
	return 0;
}

/*
 * Descriptors of one vectored command in a queue: data blocks, or PRP entries
 * without the last, which never is the last of a page (see buffer.c)
 */
#define NVME_NG_DESC_BYTES	256U
#define NVME_NG_FEW_SEGMENTS	(NVME_NG_DESC_BYTES / sizeof(struct nvme_sgl_desc))
#define NVME_NG_FEW_PRPS	(NVME_NG_DESC_BYTES / sizeof(__le64) - 1)

int nvme_ng_use_segments(struct nvme_ng_open *open, struct nvme_ng_path *path,
			 const struct nvme_ng_segment *seg, unsigned int nr,
			 struct nvme_command *cmd, void *desc, dma_addr_t at);
int nvme_ng_import_segments(struct nvme_ng_buf *buf, struct nvme_ng_open *open,
			    struct nvme_ng_path *path,
			    const struct nvme_ng_segment *seg, unsigned int nr,
			    u8 opcode, bool sgl);

/* Would the device not reach the memory another time either? */
static inline bool nvme_ng_error_lasts(int ret)
{
	return ret == -ENODEV || ret == -EOPNOTSUPP || ret == -EINVAL;
}

extern struct workqueue_struct *nvme_ng_wq;

int nvme_ng_init_regions(void);
void nvme_ng_exit_regions(void);
bool nvme_ng_is_copied(struct device *dev, struct sg_table *sgt);
struct nvme_ng_view *nvme_ng_new_view(struct nvme_ng_region *region,
				      struct nvme_ng_device *device);
void nvme_ng_free_view(struct nvme_ng_region *region, struct nvme_ng_view *view);
int nvme_ng_charge(struct nvme_ng_locked *locked, unsigned long pages,
		   unsigned int part);
void nvme_ng_uncharge(struct nvme_ng_locked *locked);
struct nvme_ng_epoch *nvme_ng_new_epoch(void);
struct nvme_ng_epoch *nvme_ng_retire(struct nvme_ng_open *open,
				     struct nvme_ng_epoch *epoch,
				     struct nvme_ng_dead *dead);
struct nvme_ng_open *nvme_ng_get_open(struct file *file);
void nvme_ng_put_open(struct nvme_ng_open *open);
struct nvme_ng_path *nvme_ng_get_path(struct nvme_ng_open *open,
				      struct nvme_ns *ns);
struct nvme_ng_device *nvme_ng_get_device(struct nvme_ctrl *ctrl);
void nvme_ng_put_device(struct nvme_ng_device *device);

/* mapping.c, not there without CONFIG_MMU_NOTIFIER */
int nvme_ng_init_mappings(void);
void nvme_ng_exit_mappings(void);
void nvme_ng_free_mappings(struct nvme_ng_open *open);
void nvme_ng_unmap_mappings(struct nvme_ng_device *device);

/* dmabuf.c, not there without CONFIG_DMA_SHARED_BUFFER */
int nvme_ng_get_dmabuf(struct nvme_ng_region *region,
		       const struct nvme_ng_map *m);
void nvme_ng_put_dmabuf(struct nvme_ng_region *region);
int nvme_ng_map_dmabuf(struct nvme_ng_view *view,
		       struct nvme_ng_region *region);
void nvme_ng_dmabuf_is_mapped(struct nvme_ng_view *view);
int nvme_ng_wait_dmabuf(struct nvme_ng_region *region);
bool nvme_ng_dmabuf_is_ready(struct nvme_ng_region *region);
void nvme_ng_unmap_dmabuf(struct nvme_ng_view *view);
void nvme_ng_remove_dmabufs(struct nvme_ng_device *device);

/* Nothing is called where no region can be one of a dma-buf. */
static inline bool nvme_ng_is_dmabuf(const struct nvme_ng_region *region)
{
	return IS_ENABLED(CONFIG_DMA_SHARED_BUFFER) && region->dmabuf;
}

#ifdef NVME_NG_FIXED
/**
 * struct nvme_ng_fixed - a registered buffer as one controller sees it
 * @user: where io_uring keeps it; its key is @device
 * @device: the controller
 * @region: the memory of the buffer, which is io_uring's
 * @view: how the controller sees it, or NULL if it cannot be mapped for long:
 *	each command maps it then
 */
struct nvme_ng_fixed {
	struct io_uring_buf_user	user;
	struct nvme_ng_device		*device;
	struct nvme_ng_region		region;
	struct nvme_ng_view		*view;
};

/*
 * Describe data in a registered buffer that is mapped: @len bytes at @addr, at
 * least 1 and no more than the controller takes, of a command without metadata.
 * Does not sleep where the ring's uring_lock is held.
 *
 * Return: 0; 1 if the command has to be mapped for itself, which also tells
 * what may be wrong with it; -ENOENT if the buffer was not mapped yet.
 */
static inline int nvme_ng_use_fixed(struct nvme_ng_path *path,
				    struct io_uring_cmd *ioucmd, u64 addr,
				    u32 len, struct nvme_command *cmd,
				    unsigned int issue_flags)
{
	struct io_uring_buf_user *user;
	struct nvme_ng_view *view;
	u64 offset;
	int flags;

	user = io_uring_cmd_buf_user(ioucmd, addr, len, path->device,
				     issue_flags);
	if (IS_ERR_OR_NULL(user))
		return user ? 1 : -ENOENT;
	view = container_of(user, struct nvme_ng_fixed, user)->view;
	if (unlikely(!view))
		return 1;
	offset = addr - user->addr;
	flags = nvme_ng_span(view, offset, len, &cmd->common.dptr);
	if (unlikely(flags < 0))
		return 1;
	cmd->common.flags = flags;
	cmd->common.metadata = 0;
	if (unlikely(nvme_ng_may_exceed(path->ns, flags)))
		return !!nvme_ng_use_prps(path->ns, view, offset, len, 0, cmd);
	return 0;
}

/* fixed.c */
int nvme_ng_map_fixed(struct nvme_ns *ns, struct io_uring_cmd *ioucmd,
		      u64 addr, u32 len, struct nvme_command *cmd,
		      unsigned int issue_flags);

#endif
/* lean.c */
/* Is it a command for a queue of its ring? */
static inline bool nvme_ng_is_lean(const struct io_uring_cmd *ioucmd)
{
	bool fixed = ioucmd->flags & IORING_URING_CMD_FIXED;

#ifdef NVME_NG_FIXED
	if (fixed)
		return ioucmd->cmd_op == NVME_URING_CMD_IO;
#endif
	return ioucmd->cmd_op == NVME_NG_URING_CMD_IO && !fixed;
}

int nvme_ng_lean_issue(struct nvme_ns *ns, struct io_uring_cmd *ioucmd,
		       bool polled);
int nvme_ng_lean_issue_vec(struct nvme_ns *ns, struct io_uring_cmd *ioucmd,
			   unsigned int issue_flags);
struct nvme_ng_lane *nvme_ng_find_lane(struct file *file, struct nvme_ns *ns,
				       bool polled);
int nvme_ng_lean_send(struct nvme_ng_lane *lane, struct io_uring_cmd *ioucmd,
		      const struct nvme_command *cmd, unsigned int timeout);
int nvme_ng_lean_issue_piece(struct nvme_ns *ns, struct io_uring_cmd *ioucmd,
			     unsigned int issue_flags);
int nvme_ng_lean_poll(struct io_uring_cmd *ioucmd, unsigned int poll_flags);
void nvme_ng_release_queues(struct nvme_ng_path *path);
void nvme_ng_show_lanes(struct seq_file *m, struct nvme_ng_open *open);

int nvme_ng_issue_array(struct nvme_ns *ns, struct io_uring_cmd *ioucmd,
			unsigned int issue_flags);

/* ring.c */
/**
 * struct nvme_ng_results - a completion ring of a program
 * @head: its beginning, as the kernel sees it
 * @entry: its entries
 * @mask: number of entries less 1
 * @tail: completions that were posted
 * @flying: commands whose completions are to be posted
 * @queue: where they are in flight, NULL if there is none: its lock protects
 *	@tail and @flying
 * @page: the pages
 * @nr_pages: number of them
 * @locked: who is charged for them
 *
 * Lives as long as the open file.  Nothing that the program writes is relied
 * on but by itself.
 */
struct nvme_ng_results {
	struct nvme_ng_ring_head	*head;
	struct nvme_ng_ring_entry	*entry;
	u32				mask;
	u32				tail;
	u32				flying;
	struct nvme_ng_queue		*queue;
	struct page			**page;
	unsigned int			nr_pages;
	struct nvme_ng_locked		locked;
};

#define NVME_NG_MAX_RINGS	64U

/* The completion ring of a handle, or NULL. */
static inline struct nvme_ng_results *
nvme_ng_find_results(struct nvme_ng_open *open, u32 handle)
{
	/* pairs with nvme_ng_publish_ring() */
	struct nvme_ng_results **all = smp_load_acquire(&open->results);

	if (!all || handle - 1 >= NVME_NG_MAX_RINGS)
		return NULL;
	handle = array_index_nospec(handle - 1, NVME_NG_MAX_RINGS);
	/* the same */
	return smp_load_acquire(&all[handle]);
}

/* Post a completion; the lock of the queue is held. */
static __always_inline void nvme_ng_post(struct nvme_ng_results *r, u64 tag,
					 int status, u64 result)
{
	struct nvme_ng_ring_entry *e = &r->entry[r->tail & r->mask];

	e->tag = tag;
	e->result = result;
	e->status = status;
	/* the program sees the entry before it is counted */
	smp_store_release(&r->head->tail, ++r->tail);
}

int nvme_ng_ioctl_ring(struct file *file, struct nvme_ns *ns,
		       void __user *arg);
void nvme_ng_free_results(struct nvme_ng_open *open);
void nvme_ng_show_results(struct seq_file *m, struct nvme_ng_open *open);

/* passthru.c */
struct nvme_ng_cmd;

/*
 * In the flags of an io_uring command, which has bits from 0 and from 31 for
 * itself: it went through a head and is not the stock code's; the controller
 * writes to the page that is pinned for it; and reads from it, too.
 */
#define NVME_NG_OURS		BIT(29)
#define NVME_NG_DIRTIES		BIT(28)
#define NVME_NG_BOTH_WAYS	BIT(27)

/* For nvme_ng_unmap_piece(), which does not know the opcode any more. */
static inline void nvme_ng_note_dir(struct io_uring_cmd *ioucmd,
				    enum dma_data_direction dir)
{
	ioucmd->flags &= ~(NVME_NG_DIRTIES | NVME_NG_BOTH_WAYS);
	if (dir != DMA_TO_DEVICE)
		ioucmd->flags |= NVME_NG_DIRTIES;
	if (dir == DMA_BIDIRECTIONAL)
		ioucmd->flags |= NVME_NG_BOTH_WAYS;
}

/* bytes in one piece, which &nvme_ng_pdu.value can hold */
#define NVME_NG_PIECE_MAX	0x80000U

/* where the data of a command is */
enum {
	NVME_NG_REGION,		/* mapped already, &nvme_ng_pdu.epoch keeps it */
	NVME_NG_BUFFERS,	/* &nvme_ng_pdu.cmd */
	NVME_NG_FIXED,		/* in one piece of a registered buffer */
	NVME_NG_PINNED,		/* in page @pfn, with a pin of ours */
};

/**
 * struct nvme_ng_pdu - what is kept in the io_uring command
 * @hctx: the hardware queue to poll, NULL once the request has ended
 * @lean: the queue without requests to poll, where @q is NULL; NULL once the
 *	command has ended where its ring does not poll
 * @q: the queue, alive as long as a request of it is
 * @next: in place of @q, another command that has ended
 * @cmd: the command, if NVME_NG_BUFFERS
 * @dma: where the data is, until the request ends
 * @mapping: in place of @dma if @kept
 * @epoch: that the command is in, until the request ends; NULL for data in a
 *	registered buffer that stays mapped
 * @results: where the commands of an array are posted
 * @result: dwords 0 and 1 of the completion, from then on
 * @data: where the data is, one of the above
 * @kept: the data was mapped before, and stays so
 * @pfn: page frame number
 * @word: the three above and @value at once; a command of a ring queue with
 *	NVME_NG_REGION, which is 0, or nvme_ng_kept_fixed() needs little to end
 * @value: bytes at @dma until the request ends, then the NVMe status or a
 *	negative errno
 * @kind: in place of @data and @kept
 * @taken: commands of an array that are sent, or were refused
 * @left: those that have not ended, and one while there are more to come
 *
 * A ring may poll while another one reaps its completion: @hctx tells, and
 * RCU keeps @q long enough to try for a reference.
 */
struct nvme_ng_pdu {
	union {
		struct blk_mq_hw_ctx	*hctx;
		struct nvme_ng_queue	*lean;
	};
	union {
		struct request_queue	*q;
		struct io_uring_cmd	*next;
	};
	union {
		struct nvme_ng_cmd	*cmd;
		dma_addr_t		dma;
		struct nvme_ng_mapping	*mapping;
		struct nvme_ng_epoch	*epoch;
		struct nvme_ng_results	*results;
		u64			result;
	};
	union {
		struct {
			u64	data:2;
			u64	kept:1;
			u64	pfn:40;
			s64	value:21;
		};
		struct {
			u64	kind:3;	/* @data and @kept */
			u64	taken:29;
			u32	left;
		};
		u64		word;
	};
};

/* &nvme_ng_pdu.word of data in a registered buffer that was mapped before */
static inline u64 nvme_ng_kept_fixed(void)
{
	const struct nvme_ng_pdu pdu = {
		.data	= NVME_NG_FIXED,
		.kept	= true,
	};

	return pdu.word;
}

static inline struct nvme_ng_pdu *nvme_ng_pdu(struct io_uring_cmd *ioucmd)
{
	BUILD_BUG_ON(sizeof(struct nvme_ng_pdu) > sizeof(ioucmd->pdu));
	return (struct nvme_ng_pdu *)&ioucmd->pdu;
}

/* Does it stand for an array of commands?  Their regions are not kept by it. */
static inline bool nvme_ng_is_array(const struct nvme_ng_pdu *pdu)
{
	return pdu->kept && pdu->data == NVME_NG_REGION;
}

/* Let go of the page of a command that is described by its address only. */
static inline void nvme_ng_release_piece(struct nvme_ng_pdu *pdu, bool dirty)
{
	struct page *page;

	/* what io_uring has pinned left no number, not even one to look up */
	if (pdu->data != NVME_NG_PINNED)
		return;
	page = pfn_to_page(pdu->pfn);
	unpin_user_pages_dirty_lock(&page, 1, dirty);
}

unsigned int nvme_ng_user_timeout(struct request_queue *q, u32 timeout_ms,
				  bool admin);
void nvme_ng_uring_end(struct io_uring_cmd *ioucmd, unsigned int issue_flags);
void nvme_ng_end_elsewhere(struct io_uring_cmd *ioucmd);
bool nvme_ng_end_sleeps(const struct nvme_ng_pdu *pdu);
void nvme_ng_end_data(struct io_uring_cmd *ioucmd, struct device *dev,
		      int status, u64 result);

#endif /* _NVME_NG_REGION_H */
