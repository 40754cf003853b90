/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the kernels that the module form builds for.  Nothing
 * of this is in the patch series: patches/resolve.py puts what is defined here
 * in the place of its name.
 */
#ifndef _NVME_NG_COMPAT_H
#define _NVME_NG_COMPAT_H

#include <linux/version.h>
#include <linux/dma-mapping.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#include <linux/backing-dev.h>
#include <linux/dma-map-ops.h>
#include <linux/io_uring.h>
#include <linux/io_uring_types.h>
#include <linux/pci.h>
#else
#include <linux/io_uring/cmd.h>
#endif
#include "nvme.h"
#include "nvme_ng.h"

#ifndef kmalloc_obj
#define nvme_ng_gfp(zero, gfp, ...)	gfp
#define kmalloc_obj(obj)		kmalloc(sizeof(obj), GFP_KERNEL)
#define kzalloc_obj(obj, ...) \
	kzalloc(sizeof(obj), nvme_ng_gfp(0, ##__VA_ARGS__, GFP_KERNEL))
#endif

/* where the format of a namespace is kept */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#define nvme_ng_format(ns)		(ns)
#define nvme_ng_uring_sqe(ioucmd)	((ioucmd)->cmd)
#elif LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)
#define nvme_ng_format(ns)		((ns)->head)
#define nvme_ng_uring_sqe(ioucmd)	io_uring_sqe_cmd((ioucmd)->sqe)
#else
#define nvme_ng_format(ns)		((ns)->head)
#define nvme_ng_uring_sqe(ioucmd) \
	io_uring_sqe128_cmd((ioucmd)->sqe, struct nvme_ng_uring_cmd)
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)
#define NVME_NG_END_IO_ARGS	struct request *req, blk_status_t err
#define NVME_NG_TW_ARGS		struct io_uring_cmd *ioucmd, unsigned int flags
#define nvme_ng_tw_ioucmd	ioucmd
#define nvme_ng_tw_flags	flags
#define nvme_ng_uring_done	io_uring_cmd_done
#define nvme_ng_import_fixed(addr, len, rw, iter, ioucmd, issue_flags) \
	io_uring_cmd_import_fixed(addr, len, rw, iter, ioucmd)

/*
 * A polled completion only marks the io_uring request as complete, which any
 * ring may do for another; it must not touch the owner's caches, nor sleep.
 */
#define nvme_ng_poll_inline(ioucmd, sleeps)	(!(sleeps))
#define nvme_ng_poll_flags			IO_URING_F_UNLOCKED
#define nvme_ng_uring_ctx(ioucmd)		(cmd_to_io_kiocb(ioucmd)->ctx)
#define nvme_ng_is_polled(ioucmd) \
	(cmd_to_io_kiocb(ioucmd)->ctx->flags & IORING_SETUP_IOPOLL)
#define NVME_NG_OVERLAP			0
#define NVME_NG_REGION_ATTRS	(DMA_ATTR_NO_WARN | DMA_ATTR_SKIP_CPU_SYNC)
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define nvme_ng_need_sync		dma_need_sync
#endif
#define NVME_NG_MOVE_NOTIFY		move_notify

/* who has operations has a dma-buf that does not move mapped both ways at once */
#define nvme_ng_importer(dmabuf, read_only, ops) \
	((read_only) && !dma_buf_is_dynamic(dmabuf) ? NULL : (ops))
#define NVME_NG_IMPORT_DMA_BUF		MODULE_IMPORT_NS(DMA_BUF)

#else
#define NVME_NG_END_IO_ARGS	struct request *req, blk_status_t err, \
				const struct io_comp_batch *iob
#define NVME_NG_TW_ARGS		struct io_tw_req tw_req, io_tw_token_t tw
#define nvme_ng_tw_ioucmd	io_uring_cmd_from_tw(tw_req)
#define nvme_ng_tw_flags	IO_URING_CMD_TASK_WORK_ISSUE_FLAGS
#define nvme_ng_uring_done	io_uring_cmd_done32
#define nvme_ng_import_fixed	io_uring_cmd_import_fixed
#define nvme_ng_poll_inline(ioucmd, sleeps) \
	((void)(sleeps), \
	 iob && iob->poll_ctx == io_uring_cmd_ctx_handle(ioucmd))
#define nvme_ng_poll_flags		0
#define nvme_ng_uring_ctx			io_uring_cmd_ctx_handle
#define nvme_ng_is_polled(ioucmd) \
	(cmd_to_io_kiocb(ioucmd)->flags & REQ_F_IOPOLL)
/* programs read into the same memory many times, which is not a driver's leak */
#define NVME_NG_OVERLAP			DMA_ATTR_DEBUGGING_IGNORE_CACHELINES
#define NVME_NG_REGION_ATTRS \
	(DMA_ATTR_NO_WARN | DMA_ATTR_SKIP_CPU_SYNC | \
	 DMA_ATTR_DEBUGGING_IGNORE_CACHELINES)
/* a kernel that debugs DMA would not say so of any memory behind an IOMMU */
#define nvme_ng_need_sync(dev, dma) \
	(!dev_dma_skip_sync(dev) && dma_need_sync(dev, dma))
#define NVME_NG_MOVE_NOTIFY		invalidate_mappings
#define nvme_ng_importer(dmabuf, read_only, ops)	(ops)
#define NVME_NG_IMPORT_DMA_BUF		MODULE_IMPORT_NS("DMA_BUF")
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
static inline struct shrinker *
nvme_ng_new_shrinker(unsigned long (*count)(struct shrinker *shrinker,
					    struct shrink_control *sc),
		     unsigned long (*scan)(struct shrinker *shrinker,
					   struct shrink_control *sc))
{
	struct shrinker *shrinker = kzalloc_obj(*shrinker);

	if (!shrinker)
		return NULL;
	shrinker->count_objects = count;
	shrinker->scan_objects = scan;
	shrinker->seeks = DEFAULT_SEEKS;
	if (!register_shrinker(shrinker, "nvme-ng"))
		return shrinker;
	kfree(shrinker);
	return NULL;
}

static inline void nvme_ng_free_shrinker(struct shrinker *shrinker)
{
	unregister_shrinker(shrinker);
	kfree(shrinker);
}

#define nvme_ng_do_in_task	io_uring_cmd_complete_in_task
#define nvme_ng_freeze_start	blk_freeze_queue_start
#define nvme_ng_unfreeze	blk_mq_unfreeze_queue

/* behind an IOMMU this kernel only tells what its operations could do */
static inline bool nvme_ng_need_sync(struct device *dev, dma_addr_t dma)
{
	if (!get_dma_ops(dev))
		return dma_need_sync(dev, dma);
	return !dev_is_dma_coherent(dev) ||
		(dev_is_pci(dev) && to_pci_dev(dev)->untrusted);
}

/*
 * A pin for reading leaves private memory that nobody has written to yet with a
 * page of others: what the program writes later would be somewhere else.  It is
 * pinned for writing, by force, once it is known that it may be read.
 *
 * A file system that writes memory back would have to be told of each write to
 * it: later kernels refuse to pin that for long and for writing.
 *
 * Only such memory, and shared memory that the program may not write to, is
 * pinned for reading, page by page because what follows may be private.
 */
static inline int nvme_ng_pin_longterm(unsigned long addr, int nr, bool write,
				       struct page **page)
{
	unsigned int flags = FOLL_LONGTERM | FOLL_WRITE;
	struct address_space *mapping;
	bool refuse = false;
	int i, ret;

	if (!write) {
		nr = pin_user_pages_fast(addr, nr, FOLL_LONGTERM, page);
		if (nr <= 0)
			return nr;
		unpin_user_pages(page, nr);
		flags |= FOLL_FORCE;
	}
	ret = pin_user_pages_fast(addr, nr, flags, page);
	rcu_read_lock();
	for (i = 0; i < ret && !refuse; i++) {
		mapping = page_mapping(page[i]);
		refuse = mapping && mapping_can_writeback(mapping);
	}
	rcu_read_unlock();
	if (refuse) {
		unpin_user_pages(page, ret);
		ret = -EFAULT;
	}
	if (write || ret != -EFAULT)
		return ret;
	return pin_user_pages_fast(addr, 1, FOLL_LONGTERM, page);
}

/* there is no flag for it, and a command is the beginning of its request */
static inline bool nvme_ng_uring_compat(struct io_uring_cmd *ioucmd,
					unsigned int issue_flags)
{
	return container_of((struct io_cmd_data *)ioucmd, struct io_kiocb,
			    cmd)->ctx->compat;
}

/*
 * What a polled command's bio is found by becomes the function that completes
 * it: commands of other transports are not polled.
 */
#define nvme_ng_stock_flags(flags)	((flags) & ~IO_URING_F_IOPOLL)
#define nvme_ng_stock_iopoll(ioucmd, iob, flags)	0
#define nvme_ng_stock_ioctl(ns, cmd, arg, write) \
	nvme_ns_ioctl(ns, cmd, arg)
#define nvme_ng_stock_ctrl_ioctl(ctrl, cmd, arg, write) \
	nvme_ctrl_ioctl(ctrl, cmd, arg)

/* the start of the effects is part of the execution here */
static inline u32 nvme_ng_execute(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
				  struct request *req, u8 opcode, int *status)
{
	u32 effects;

	*status = nvme_execute_passthru_rq(req, &effects);
	return effects;
}
#else
static inline struct shrinker *
nvme_ng_new_shrinker(unsigned long (*count)(struct shrinker *shrinker,
					    struct shrink_control *sc),
		     unsigned long (*scan)(struct shrinker *shrinker,
					   struct shrink_control *sc))
{
	struct shrinker *shrinker = shrinker_alloc(0, "nvme-ng");

	if (!shrinker)
		return NULL;
	shrinker->count_objects = count;
	shrinker->scan_objects = scan;
	shrinker_register(shrinker);
	return shrinker;
}

#define nvme_ng_free_shrinker	shrinker_free
#define nvme_ng_do_in_task	io_uring_cmd_do_in_task_lazy
#define nvme_ng_freeze_start	blk_freeze_queue_start_non_owner
#define nvme_ng_unfreeze	blk_mq_unfreeze_queue_non_owner
#define nvme_ng_pin_longterm(addr, nr, write, page) \
	pin_user_pages_fast(addr, nr, FOLL_LONGTERM | ((write) ? FOLL_WRITE : 0), \
			    page)
#define nvme_ng_stock_flags(flags)	(flags)
#define nvme_ng_stock_iopoll		nvme_ns_chr_uring_cmd_iopoll
#define nvme_ng_stock_ioctl(ns, cmd, arg, write) \
	nvme_ns_ioctl(ns, cmd, arg, 0, write)
#define nvme_ng_stock_ctrl_ioctl	nvme_ctrl_ioctl

static inline bool nvme_ng_uring_compat(struct io_uring_cmd *ioucmd,
					unsigned int issue_flags)
{
	return issue_flags & IO_URING_F_COMPAT;
}

static inline u32 nvme_ng_execute(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
				  struct request *req, u8 opcode, int *status)
{
	u32 effects = nvme_passthru_start(ctrl, ns, opcode);

	*status = nvme_execute_rq(req, false);
	return effects;
}
#endif

#endif /* _NVME_NG_COMPAT_H */
