// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-ng: memory that is mapped for DMA before the commands that use it.
 *
 * A region is pinned and mapped once.  Where the I/O addresses of a region
 * are contiguous, an address and a length describe any part of it.  Where
 * they are not, or where the controller takes PRPs only, every page of the
 * region has its PRP entry in a table that lives as long as the region, and a
 * command points into the table.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/seq_file.h>
#include <linux/swiotlb.h>
#include <linux/xarray.h>
#include "ng-queue.h"
#include "region.h"

#define NVME_NG_MAX_REGIONS	65535
#define NVME_NG_MAX_LEN		BIT_ULL(40)

/* pages pinned at a time, one page of pointers */
#define NVME_NG_PIN_PAGES	(PAGE_SIZE / sizeof(struct page *))

/* epochs that end at once, the rest of them in a work item */
#define NVME_NG_END_AT_ONCE	16

/* entries by which the second table is shifted, see nvme_ng_span_prps() */
#define NVME_NG_PRP_SHIFT	(NVME_NG_PRPS / 2)

struct workqueue_struct *nvme_ng_wq;

/**
 * nvme_ng_init_regions - allocate what all regions share
 *
 * Return: 0 or -ENOMEM.
 */
int nvme_ng_init_regions(void)
{
	/* its work waits for memory: nvme_wq is there to get some */
	nvme_ng_wq = alloc_workqueue("nvme-ng-wq", WQ_UNBOUND, 0);
	if (!nvme_ng_wq)
		return -ENOMEM;
	if (!IS_ENABLED(CONFIG_MMU_NOTIFIER) || !nvme_ng_init_mappings())
		return 0;
	destroy_workqueue(nvme_ng_wq);
	return -ENOMEM;
}

/**
 * nvme_ng_exit_regions - free it again
 *
 * There is no open file; what these have left behind is let go of.
 */
void nvme_ng_exit_regions(void)
{
	if (IS_ENABLED(CONFIG_MMU_NOTIFIER))
		nvme_ng_exit_mappings();
	destroy_workqueue(nvme_ng_wq);
}

/* Devices */

/* by instance of the controller */
static DEFINE_XARRAY(nvme_ng_devices);

static void nvme_ng_free_device(struct kref *ref)
{
	kfree(container_of(ref, struct nvme_ng_device, ref));
}

/**
 * nvme_ng_put_device - drop a reference
 * @device: may be freed
 */
void nvme_ng_put_device(struct nvme_ng_device *device)
{
	kref_put(&device->ref, nvme_ng_free_device);
}

/**
 * nvme_ng_get_device - find what nvme_ng_add_device() made
 * @ctrl: the controller
 *
 * Return: with a reference, or NULL.
 */
struct nvme_ng_device *nvme_ng_get_device(struct nvme_ctrl *ctrl)
{
	struct nvme_ng_device *device;

	xa_lock(&nvme_ng_devices);
	device = xa_load(&nvme_ng_devices, ctrl->instance);
	if (device)
		kref_get(&device->ref);
	xa_unlock(&nvme_ng_devices);
	return device;
}

/*
 * A device that is not trusted sees what it needs while it needs it.  What an
 * IOMMU translates is worth keeping, and else an address is that of the memory.
 */
static void nvme_ng_look_at_dma(struct nvme_ng_device *device,
				struct device *dev)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);

	if (dma_addressing_limited(dev) ||
	    (dev_is_pci(dev) && to_pci_dev(dev)->untrusted))
		return;
	if (domain && domain->type & __IOMMU_DOMAIN_PAGING)
		device->keeps_mappings = IS_ENABLED(CONFIG_MMU_NOTIFIER);
	else
		device->maps_at_once = !nvme_ng_need_sync(dev, 0) &&
			!is_swiotlb_force_bounce(dev);
}

/**
 * nvme_ng_add_device - let regions be mapped for a controller
 * @ctrl: a PCIe controller that became ready, again perhaps
 *
 * Without memory nothing can be mapped for it.
 */
void nvme_ng_add_device(struct nvme_ctrl *ctrl)
{
	struct nvme_ng_device *device;

	if (xa_load(&nvme_ng_devices, ctrl->instance))
		return;
	device = kzalloc_obj(*device);
	if (!device)
		return;
	kref_init(&device->ref);
	device->ctrl = ctrl;
	init_rwsem(&device->mapping);
	mutex_init(&device->lock);
	INIT_LIST_HEAD(&device->views);
	INIT_LIST_HEAD(&device->attached);
	INIT_LIST_HEAD(&device->mappings);
	nvme_ng_look_at_dma(device, ctrl->dev);
	INIT_LIST_HEAD(&device->queues);
	if (xa_insert(&nvme_ng_devices, ctrl->instance, device, GFP_KERNEL))
		kfree(device);
}
EXPORT_SYMBOL_GPL(nvme_ng_add_device);

/* Memory of the entries, and their mapping. */
static void nvme_ng_free_prps(struct nvme_ng_view *view, struct device *dev)
{
	unsigned int i, t;

	for (t = 0; t < ARRAY_SIZE(view->prps); t++) {
		struct nvme_ng_prps *prps = view->prps[t];

		view->prps[t] = NULL;
		for (i = 0; prps && i < prps->nr; i++) {
			dma_unmap_single(dev, prps->page[i].dma,
					 NVME_CTRL_PAGE_SIZE, DMA_TO_DEVICE);
			kfree(prps->page[i].entry);
			cond_resched();
		}
		kvfree(prps);
	}
}

static enum dma_data_direction nvme_ng_view_dir(const struct nvme_ng_view *view)
{
	return view->read_only ? DMA_TO_DEVICE : DMA_BIDIRECTIONAL;
}

/*
 * End all that the view has of the device, which &nvme_ng_device.mapping keeps;
 * the view is not on its list any more.
 */
static void nvme_ng_unmap_device(struct nvme_ng_view *view)
{
	struct device *dev = view->device->ctrl->dev;

	nvme_ng_free_prps(view, dev);
	if (IS_ENABLED(CONFIG_DMA_SHARED_BUFFER) && view->attach)
		nvme_ng_unmap_dmabuf(view);
	else
		dma_unmap_sgtable(dev, view->sgt, nvme_ng_view_dir(view),
				  NVME_NG_REGION_ATTRS);
}

/**
 * nvme_ng_remove_device - end all mappings for a controller
 * @ctrl: has no command in flight and will have none
 */
void nvme_ng_remove_device(struct nvme_ctrl *ctrl)
{
	struct nvme_ng_device *device;
	struct nvme_ng_view *view, *next;

	device = xa_erase(&nvme_ng_devices, ctrl->instance);
	if (!device)
		return;
	/* who maps has all that a program can keep it waiting for already */
	down_write(&device->mapping);
	device->gone = true;
	list_for_each_entry_safe(view, next, &device->views, on_device) {
		list_del_init(&view->on_device);
		nvme_ng_unmap_device(view);
		cond_resched();
	}
	if (IS_ENABLED(CONFIG_DMA_SHARED_BUFFER))
		nvme_ng_remove_dmabufs(device);
	if (IS_ENABLED(CONFIG_MMU_NOTIFIER))
		nvme_ng_unmap_mappings(device);
	up_write(&device->mapping);
	nvme_ng_put_device(device);
}
EXPORT_SYMBOL_GPL(nvme_ng_remove_device);

/* Views */

/**
 * nvme_ng_free_view - what nvme_ng_new_view() made
 * @region: the region
 * @view: no command uses it
 *
 * Process context, sleeps.
 */
void nvme_ng_free_view(struct nvme_ng_region *region, struct nvme_ng_view *view)
{
	struct nvme_ng_device *device = view->device;
	bool mapped;

	down_read(&device->mapping);
	mutex_lock(&device->lock);
	mapped = !list_empty(&view->on_device);
	list_del_init(&view->on_device);
	mutex_unlock(&device->lock);
	if (mapped)
		nvme_ng_unmap_device(view);
	up_read(&device->mapping);
	if (view->sgt && view->sgt != &region->mem.sgt) {
		sg_free_table(view->sgt);
		kfree(view->sgt);
	}
	nvme_ng_put_device(device);
	kfree(view);
}

/* A table of the region's pages for a view to keep its addresses in. */
static struct sg_table *nvme_ng_table_of(struct nvme_ng_region *region)
{
	struct scatterlist *from, *to;
	struct sg_table *sgt;
	unsigned int i;

	if (!region->mem_used) {
		region->mem_used = true;
		return &region->mem.sgt;
	}
	sgt = kzalloc_obj(*sgt, GFP_KERNEL_ACCOUNT);
	if (!sgt)
		return NULL;
	if (sg_alloc_table(sgt, region->mem.sgt.orig_nents,
			   GFP_KERNEL_ACCOUNT)) {
		kfree(sgt);
		return NULL;
	}
	to = sgt->sgl;
	for_each_sgtable_sg(&region->mem.sgt, from, i) {
		sg_set_page(to, sg_page(from), from->length, from->offset);
		to = sg_next(to);
	}
	return sgt;
}

/* Would the kernel copy this memory, or have to keep caches coherent? */
bool nvme_ng_is_copied(struct device *dev, struct sg_table *sgt)
{
	struct scatterlist *sg;
	bool copied = false;
	unsigned int i;

	for_each_sgtable_dma_sg(sgt, sg, i) {
		copied = nvme_ng_need_sync(dev, sg_dma_address(sg));
		if (copied)
			break;
	}
	return copied;
}

/*
 * Does the device reach memory without copies?  This is tried with a page of
 * the kernel's own, before a region fills what there is for copies.
 */
static int nvme_ng_try_device(struct device *dev)
{
	struct page *page;
	dma_addr_t dma;
	int ret = 0;

	/* the program's memory may be where the device does not reach */
	if (dma_addressing_limited(dev))
		return -EOPNOTSUPP;
	page = alloc_page(GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	dma = dma_map_page_attrs(dev, page, 0, PAGE_SIZE, DMA_BIDIRECTIONAL,
				 NVME_NG_REGION_ATTRS);
	if (dma_mapping_error(dev, dma)) {
		ret = -EOPNOTSUPP;
	} else {
		if (nvme_ng_need_sync(dev, dma))
			ret = -EOPNOTSUPP;
		dma_unmap_page_attrs(dev, dma, PAGE_SIZE, DMA_BIDIRECTIONAL,
				     NVME_NG_REGION_ATTRS);
	}
	__free_page(page);
	return ret;
}

/*
 * The attributes say that nothing is to be copied or made coherent, when it is
 * mapped nor later: what needs it is refused, and unmapping such memory would
 * undo what CPU and device wrote to it meanwhile.
 */
static int nvme_ng_map_memory(struct nvme_ng_view *view,
			      struct nvme_ng_region *region, struct device *dev)
{
	enum dma_data_direction dir = nvme_ng_view_dir(view);
	int ret;

	ret = nvme_ng_try_device(dev);
	if (ret)
		return ret;
	view->sgt = nvme_ng_table_of(region);
	if (!view->sgt)
		return -ENOMEM;
	ret = dma_map_sgtable(dev, view->sgt, dir, NVME_NG_REGION_ATTRS);
	if (ret)
		return ret == -EREMOTEIO || ret == -EIO ? -EOPNOTSUPP : ret;
	if (nvme_ng_is_copied(dev, view->sgt)) {
		dma_unmap_sgtable(dev, view->sgt, dir, NVME_NG_REGION_ATTRS);
		return -EOPNOTSUPP;
	}
	return 0;
}

/*
 * Go through the pieces of I/O memory that the region is: @fn is called with
 * each, those that touch taken together.
 */
static int nvme_ng_for_pieces(struct nvme_ng_view *view, u64 skip,
			      int (*fn)(void *data, dma_addr_t dma, u64 len),
			      void *data)
{
	u64 left = view->len, len = 0;
	struct scatterlist *sg;
	dma_addr_t dma = 0;
	unsigned int i;
	int ret;

	for_each_sgtable_dma_sg(view->sgt, sg, i) {
		dma_addr_t at = sg_dma_address(sg);
		u64 n = sg_dma_len(sg);

		if (skip >= n) {
			skip -= n;
			continue;
		}
		at += skip;
		n = min_t(u64, n - skip, left);
		skip = 0;
		left -= n;
		if (len && dma + len == at) {
			len += n;
		} else {
			ret = len ? fn(data, dma, len) : 0;
			if (ret)
				return ret;
			dma = at;
			len = n;
		}
		if (!left)
			break;
	}
	if (left)
		return -EINVAL;
	return fn(data, dma, len);
}

struct nvme_ng_survey {
	dma_addr_t first;
	unsigned int pieces;
	bool gaps;
	dma_addr_t end;
};

static int nvme_ng_survey_piece(void *data, dma_addr_t dma, u64 len)
{
	struct nvme_ng_survey *s = data;

	if (!s->pieces++)
		s->first = dma;
	else if ((s->end | dma) & (NVME_CTRL_PAGE_SIZE - 1))
		s->gaps = true;
	s->end = dma + len;
	return 0;
}

static u32 nvme_ng_prp_shift(unsigned int table)
{
	return table ? NVME_NG_PRP_SHIFT : 0;
}

/* Allocate and chain the pages of a table for @nr entries. */
static struct nvme_ng_prps *nvme_ng_alloc_prps(struct device *dev, u32 nr)
{
	unsigned int i, pages = DIV_ROUND_UP(nr, NVME_NG_PRPS);
	struct nvme_ng_prps *prps;

	prps = kvzalloc(struct_size(prps, page, pages), GFP_KERNEL_ACCOUNT);
	for (i = 0; prps && i < pages; i++) {
		__le64 *entry = kzalloc(NVME_CTRL_PAGE_SIZE,
					GFP_KERNEL_ACCOUNT);
		dma_addr_t dma;

		if (!entry)
			break;
		if (fatal_signal_pending(current)) {
			kfree(entry);
			break;
		}
		dma = dma_map_single(dev, entry, NVME_CTRL_PAGE_SIZE,
				     DMA_TO_DEVICE);
		if (dma_mapping_error(dev, dma)) {
			kfree(entry);
			break;
		}
		prps->page[i].entry = entry;
		prps->page[i].dma = dma;
		prps->nr++;
		if (i)
			prps->page[i - 1].entry[NVME_NG_PRPS] =
				cpu_to_le64(dma);
		cond_resched();
	}
	return prps;
}

struct nvme_ng_fill {
	struct nvme_ng_view *view;
	u32 page;
};

static int nvme_ng_fill_piece(void *data, dma_addr_t dma, u64 len)
{
	struct nvme_ng_fill *fill = data;
	dma_addr_t end = dma + len;
	unsigned int t;

	dma = ALIGN_DOWN(dma, NVME_CTRL_PAGE_SIZE);
	for (; dma < end; dma += NVME_CTRL_PAGE_SIZE, fill->page++) {
		for (t = 0; t < 2 && fill->view->prps[t]; t++)
			*nvme_ng_prp(fill->view->prps[t],
				     fill->page + nvme_ng_prp_shift(t), NULL) =
				cpu_to_le64(dma);
		if (fill->page % 4096)
			continue;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/* NVM Express Base specification, Physical Region Page Entry and List */
static int nvme_ng_make_prps(struct nvme_ng_view *view, u64 skip,
			     struct device *dev)
{
	u32 nr = DIV_ROUND_UP(view->offset + view->len, NVME_CTRL_PAGE_SIZE);
	struct nvme_ng_fill fill = { .view = view };
	unsigned int t, i, tables = nr > NVME_NG_PRPS ? 2 : 1;
	int ret;

	for (t = 0; t < tables; t++) {
		u32 entries = nr + nvme_ng_prp_shift(t);

		view->prps[t] = nvme_ng_alloc_prps(dev, entries);
		if (!view->prps[t] ||
		    view->prps[t]->nr < DIV_ROUND_UP(entries, NVME_NG_PRPS))
			return fatal_signal_pending(current) ? -EINTR : -ENOMEM;
	}
	ret = nvme_ng_for_pieces(view, skip, nvme_ng_fill_piece, &fill);
	if (ret)
		return ret;
	for (t = 0; t < tables; t++)
		for (i = 0; i < view->prps[t]->nr; i++)
			dma_sync_single_for_device(dev,
						   view->prps[t]->page[i].dma,
						   NVME_CTRL_PAGE_SIZE,
						   DMA_TO_DEVICE);
	return 0;
}

/**
 * nvme_ng_new_view - see a region with the eyes of a device
 * @region: the region
 * @device: the device
 *
 * Process context, sleeps, but not for a program: its memory is there.
 *
 * Return: the view, or an ERR_PTR() of -ENODEV if the controller is gone,
 * -EOPNOTSUPP if it cannot reach the memory without copies, -EINVAL if it does
 * not take its pieces, -ENOMEM, -EINTR if the process is to end, or what the
 * mapping fails with.
 */
struct nvme_ng_view *nvme_ng_new_view(struct nvme_ng_region *region,
				      struct nvme_ng_device *device)
{
	struct nvme_ctrl *ctrl = device->ctrl;
	u64 skip = nvme_ng_is_dmabuf(region) ? region->offset : 0;
	struct nvme_ng_survey survey = { };
	struct nvme_ng_view *view;
	unsigned int noio;
	int ret;

	view = kzalloc_obj(*view, GFP_KERNEL_ACCOUNT);
	if (!view)
		return ERR_PTR(-ENOMEM);
	INIT_LIST_HEAD(&view->on_device);
	view->device = device;
	view->match = device;
	kref_get(&device->ref);
	view->len = region->len;
	view->read_only = region->read_only;

	ret = down_read_killable(&device->mapping);
	if (ret)
		goto out_free;
	/* who waits for this may hold up what the memory would be written to */
	noio = memalloc_noio_save();
	ret = -ENODEV;
	if (device->gone)
		goto out_unlock;
	view->sgl = nvme_ctrl_sgl_supported(ctrl);
	view->align = nvme_ng_align_mask(ctrl, view->sgl);
	if (nvme_ng_is_dmabuf(region))
		ret = nvme_ng_map_dmabuf(view, region);
	else
		ret = nvme_ng_map_memory(view, region, ctrl->dev);
	if (ret)
		goto out_unlock;
	mutex_lock(&device->lock);
	list_add(&view->on_device, &device->views);
	mutex_unlock(&device->lock);

	ret = nvme_ng_for_pieces(view, skip, nvme_ng_survey_piece, &survey);
	if (ret)
		goto out_unlock;
	view->one = survey.pieces == 1;
	view->dma = survey.first;
	view->offset = survey.first & (NVME_CTRL_PAGE_SIZE - 1);
	if (!nvme_ng_view_is_block(view))
		ret = survey.gaps ? -EINVAL :
			nvme_ng_make_prps(view, skip, ctrl->dev);
out_unlock:
	if (IS_ENABLED(CONFIG_DMA_SHARED_BUFFER) && view->attach)
		nvme_ng_dmabuf_is_mapped(view);
	memalloc_noio_restore(noio);
	up_read(&device->mapping);
	if (!ret)
		return view;
out_free:
	nvme_ng_free_view(region, view);
	return ERR_PTR(ret);
}

/*
 * Describe a part of a region by the entries of its tables: @len bytes, at
 * least 1, @at bytes from the start of the page in which the region begins.
 *
 * A controller takes the last entry of a page for data if no more than one
 * entry is left, and for the address of more entries otherwise.  The tables
 * have an address there, so a list whose very last entry comes first in a page
 * of the one is taken from the other, where it does not.
 */
static __always_inline void nvme_ng_span_prps(const struct nvme_ng_view *view,
					      u64 at, u32 len,
					      union nvme_data_ptr *dptr)
{
	u32 first = at / NVME_CTRL_PAGE_SIZE;
	u32 last = (at + len - 1) / NVME_CTRL_PAGE_SIZE;
	u32 page = nvme_ng_prp_page(first), slot = first - page * NVME_NG_PRPS;
	const struct nvme_ng_prps *prps = view->prps[0];
	dma_addr_t list;

	dptr->prp1 = cpu_to_le64(le64_to_cpu(prps->page[page].entry[slot]) +
				 at % NVME_CTRL_PAGE_SIZE);
	dptr->prp2 = 0;
	if (last == first)
		return;
	/* the next entry */
	if (unlikely(++slot == NVME_NG_PRPS)) {
		slot = 0;
		page++;
	}
	if (last == first + 1) {
		dptr->prp2 = prps->page[page].entry[slot];
		return;
	}
	list = prps->page[page].dma + slot * sizeof(__le64);
	/* only a list that goes beyond its first page can end like that */
	if (unlikely(slot + last - first > NVME_NG_PRPS &&
		     last == nvme_ng_prp_page(last) * NVME_NG_PRPS))
		nvme_ng_prp(view->prps[1], first + 1 + nvme_ng_prp_shift(1),
			    &list);
	dptr->prp2 = cpu_to_le64(list);
}

/* How much of @len bytes at @offset is in one piece, and where. */
static u32 nvme_ng_piece(const struct nvme_ng_view *view, u64 offset, u32 len,
			 dma_addr_t *dma)
{
	u64 at = view->offset + offset;
	u32 page = at / NVME_CTRL_PAGE_SIZE;
	u32 n = NVME_CTRL_PAGE_SIZE - at % NVME_CTRL_PAGE_SIZE;

	if (view->one) {
		*dma = view->dma + offset;
		return len;
	}
	*dma = le64_to_cpu(*nvme_ng_prp(view->prps[0], page, NULL)) +
		at % NVME_CTRL_PAGE_SIZE;
	while (n < len && *dma + n == le64_to_cpu(*nvme_ng_prp(view->prps[0],
							       ++page, NULL)))
		n += NVME_CTRL_PAGE_SIZE;
	return min(n, len);
}

/**
 * nvme_ng_use_meta - fill in the metadata pointer of a command
 * @open: the file, whose epoch the caller is in
 * @path: where the command goes
 * @sqe: names the metadata
 * @len: bytes of it, at least 1
 * @cmd: the command
 *
 * RCU.  Return: 0; -ENOENT; -EFAULT; -EINVAL if the metadata is too long, not
 * in one piece for the controller, or its address no multiple of 4.
 */
int nvme_ng_use_meta(struct nvme_ng_open *open, struct nvme_ng_path *path,
		     const struct nvme_ng_uring_cmd *sqe, u32 len,
		     struct nvme_command *cmd)
{
	u64 offset = READ_ONCE(sqe->metadata);
	struct nvme_ng_view *view;
	dma_addr_t dma;

	if (len > nvme_ng_metadata_bound(path->ns))
		return -EINVAL;
	view = nvme_ng_find_view(open, path->device,
				 READ_ONCE(sqe->meta_region));
	if (!view)
		return -ENOENT;
	if (!nvme_ng_in_view(view, offset, len, cmd->common.opcode))
		return -EFAULT;
	if (nvme_ng_piece(view, offset, len, &dma) < len || dma & 3)
		return -EINVAL;
	cmd->common.metadata = cpu_to_le64(dma);
	return 0;
}

/**
 * nvme_ng_exceeds - can a command make the controller go beyond its buffers
 * @ns: the namespace
 * @cmd: the command; where it moves metadata and @meta_len is 0 its metadata
 *	pointer is set to memory of the driver
 * @block: the controller is told the length of the data
 * @len: bytes of data; unless @block set to what the command moves, on which
 *	it depends what a controller takes PRP 2 for
 * @meta_len: bytes of metadata
 *
 * The caller holds a request of the namespace's queue, or what else a freeze
 * of the queue waits for.
 *
 * Return: 0 if it cannot; -EINVAL if it can; 1 if that is not known.
 */
int nvme_ng_exceeds(struct nvme_ns *ns, struct nvme_command *cmd, bool block,
		    u32 *len, u32 meta_len)
{
	u64 data, meta;

	if (!nvme_ng_cmd_length(ns, cmd, &data, &meta)) {
		if (!block)
			return 1;
		if (!nvme_ng_metadata_unknown(ns, cmd))
			return 0;
		/* whoever may send it is at least not to write to address 0 */
		if (!meta_len)
			nvme_ng_use_scratch(ns, cmd, 0);
		return 1;
	}
	if (!block && data > *len)
		return -EINVAL;
	if (meta > meta_len && (meta_len || !nvme_ng_use_scratch(ns, cmd, meta)))
		return -EINVAL;
	if (!block)
		*len = data;
	return 0;
}

/* The common case: a command without metadata that moves exactly @len bytes. */
static bool nvme_ng_is_exact(struct nvme_ns *ns, const struct nvme_command *cmd,
			     u32 len)
{
	u32 nr = (le32_to_cpu(cmd->common.cdw12) & 0xffff) + 1;
	u8 opcode = cmd->common.opcode, csi = ns->head->ids.csi;
	u32 format = nvme_ng_block_format(ns);
	u32 shift = nvme_ng_format_shift(format);

	return nvme_ng_format_is_plain(format) && shift &&
		(u64)nr << shift == len &&
		(opcode == nvme_cmd_read || opcode == nvme_cmd_write) &&
		(csi == NVME_CSI_NVM || csi == NVME_CSI_ZNS);
}

/* As nvme_ng_use_prps(), for any command. */
static noinline int nvme_ng_use_checked(struct nvme_ns *ns,
					const struct nvme_ng_view *view,
					u64 offset, u32 len, u32 meta_len,
					struct nvme_command *cmd)
{
	bool block = cmd->common.flags & NVME_CMD_SGL_METABUF;
	int ret;

	ret = nvme_ng_exceeds(ns, cmd, block, &len, meta_len);
	if (ret || block)
		return ret;
	if (len)
		nvme_ng_span_prps(view, view->offset + offset, len,
				  &cmd->common.dptr);
	else
		nvme_ng_describe_nothing(false, cmd);
	return 0;
}

/**
 * nvme_ng_use_prps - fill in the rest of a command with data in a region
 * @ns: the namespace
 * @view: the region, if @len
 * @offset: of the data in the region
 * @len: bytes of data
 * @meta_len: bytes of metadata
 * @cmd: the command, whose flags tell if the data is described with its length
 *
 * RCU.  Return: as nvme_ng_exceeds().
 */
int nvme_ng_use_prps(struct nvme_ns *ns, const struct nvme_ng_view *view,
		     u64 offset, u32 len, u32 meta_len,
		     struct nvme_command *cmd)
{
	/* in the common case nothing is called, so nothing has to be saved */
	if (unlikely(!nvme_ng_is_exact(ns, cmd, len)))
		return nvme_ng_use_checked(ns, view, offset, len, meta_len, cmd);
	nvme_ng_span_prps(view, view->offset + offset, len, &cmd->common.dptr);
	return 0;
}

/* One piece of memory after others, as a Scatter Gather List has it. */
static bool nvme_ng_add_block(struct nvme_sgl_desc *desc, unsigned int *nr,
			      dma_addr_t dma, u32 len)
{
	if (*nr == NVME_NG_FEW_SEGMENTS)
		return false;
	nvme_ng_sgl_set(&desc[(*nr)++], dma, len, NVME_SGL_FMT_DATA_DESC);
	return true;
}

/* As PRP entries, the first of which is in the command. */
static bool nvme_ng_add_prps(__le64 *desc, unsigned int *nr, dma_addr_t dma,
			     u32 len, struct nvme_command *cmd)
{
	dma_addr_t end = dma + len;

	for (; dma < end; dma = ALIGN_DOWN(dma, NVME_CTRL_PAGE_SIZE) +
				NVME_CTRL_PAGE_SIZE) {
		if (*nr > NVME_NG_FEW_PRPS)
			return false;
		if (*nr)
			desc[*nr - 1] = cpu_to_le64(dma);
		else
			cmd->common.dptr.prp1 = cpu_to_le64(dma);
		++*nr;
	}
	return true;
}

/**
 * nvme_ng_use_segments - fill in the pointers of a command with few segments
 * @open: the file, whose epoch the caller is in
 * @path: where the command goes
 * @seg: segments
 * @nr: number of them, up to NVME_NG_FEW_SEGMENTS
 * @cmd: the command, without metadata
 * @desc: NVME_NG_DESC_BYTES of memory for descriptors
 * @at: where the controller has that
 *
 * RCU.  Return: 0, or 1 if the command takes more than that or something is
 * wrong with it.
 */
int nvme_ng_use_segments(struct nvme_ng_open *open, struct nvme_ng_path *path,
			 const struct nvme_ng_segment *seg, unsigned int nr,
			 struct nvme_command *cmd, void *desc, dma_addr_t at)
{
	const u32 gap = NVME_CTRL_PAGE_SIZE - 1;
	struct nvme_ns *ns = path->ns;
	bool sgl = nvme_ng_has_sgl(ns->ctrl, ns);
	u64 len = 0, offset, max = nvme_ng_max(ns->ctrl);
	struct nvme_ng_view *view;
	unsigned int i, used = 0;
	dma_addr_t dma, end = 0;
	u32 n, left;

	cmd->common.flags = 0;
	cmd->common.metadata = 0;
	cmd->common.dptr.prp2 = 0;
	for (i = 0; i < nr; i++) {
		left = seg[i].len;
		offset = seg[i].offset;
		len += left;
		view = nvme_ng_find_view(open, path->device, seg[i].region);
		if (!view || len > max ||
		    !nvme_ng_in_view(view, offset, left, cmd->common.opcode))
			return 1;
		for (; left; left -= n, offset += n) {
			n = nvme_ng_piece(view, offset, left, &dma);
			if (sgl) {
				if ((dma | n) & view->align ||
				    !nvme_ng_add_block(desc, &used, dma, n))
					return 1;
				continue;
			}
			if (dma & 3 || (used && (end | dma) & gap) ||
			    !nvme_ng_add_prps(desc, &used, dma, n, cmd))
				return 1;
			end = dma + n;
		}
	}
	if (!len)
		return 1;
	if (!sgl) {
		if (used > 1)
			cmd->common.dptr.prp2 = used == 2 ? *(__le64 *)desc :
				cpu_to_le64(at);
		return !nvme_ng_is_exact(ns, cmd, len);
	}
	cmd->common.flags = NVME_CMD_SGL_METABUF;
	if (used == 1)
		cmd->common.dptr.sgl = *(struct nvme_sgl_desc *)desc;
	else
		nvme_ng_sgl_set(&cmd->common.dptr.sgl, at,
				used * sizeof(struct nvme_sgl_desc),
				NVME_SGL_FMT_LAST_SEG_DESC);
	return nvme_ng_may_exceed(ns, true);
}

/**
 * nvme_ng_import_segments - take data of a command from regions
 * @buf: the data, as nvme_ng_buf_init() left it; mapped afterwards
 * @open: the file, whose epoch the caller is in
 * @path: where the command goes
 * @seg: segments
 * @nr: number of them
 * @opcode: opcode of the command
 * @sgl: there is no rule where segments meet
 *
 * Process context; does not sleep while it looks at a region, which
 * nvme_ng_enter() keeps.
 *
 * Return: 0 or -ENOENT, -EFAULT, -EINVAL, -ENOMEM.
 */
int nvme_ng_import_segments(struct nvme_ng_buf *buf, struct nvme_ng_open *open,
			    struct nvme_ng_path *path,
			    const struct nvme_ng_segment *seg, unsigned int nr,
			    u8 opcode, bool sgl)
{
	const u32 gap = NVME_CTRL_PAGE_SIZE - 1;
	unsigned int i, pieces, max = 0;
	struct scatterlist *sg;
	struct nvme_ng_view *view;
	dma_addr_t dma, end = 0;
	u64 offset;
	u32 n, left;

	/* once to count, once to fill in */
again:
	pieces = 0;
	for (i = 0; i < nr; i++) {
		offset = seg[i].offset;
		left = seg[i].len;
		if (!left)
			continue;
		rcu_read_lock();
		view = nvme_ng_find_view(open, path->device, seg[i].region);
		rcu_read_unlock();
		if (!view)
			return -ENOENT;
		if (!nvme_ng_in_view(view, offset, left, opcode))
			return -EFAULT;
		for (; left; left -= n, offset += n) {
			n = nvme_ng_piece(view, offset, left, &dma);
			if (sgl ? (dma | n) & view->align :
			    dma & 3 || (pieces && (end | dma) & gap))
				return -EINVAL;
			end = dma + n;
			pieces++;
			if (pieces > max)
				continue;
			sg = &buf->dev[pieces - 1];
			sg->dma_address = dma;
			sg_dma_len(sg) = n;
			buf->len += n;
		}
	}
	if (buf->premapped) {
		/* a handle may have come to mean another region meanwhile */
		if (pieces != max)
			return -ENOENT;
		buf->dev_len = buf->len;
		return 0;
	}
	if (!pieces)
		return 0;
	if (pieces > buf->nr_few)
		buf->user = kvmalloc_array(pieces, sizeof(*sg),
					   GFP_KERNEL_ACCOUNT);
	if (!buf->user)
		return -ENOMEM;
	max = pieces;
	buf->dev = buf->user;
	buf->nr_dma = pieces;
	buf->mapped = true;
	buf->premapped = true;
	goto again;
}

/* Regions */

#ifdef CONFIG_IO_URING
static unsigned long nvme_ng_memlock_limit(void)
{
	return ns_capable_noaudit(&init_user_ns, CAP_IPC_LOCK) ? ULONG_MAX :
		rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
}

/**
 * nvme_ng_charge - charge the current user for locked memory
 * @locked: to remember it
 * @pages: pages
 * @part: the user can have that part of the limit, 1 for all of it
 *
 * Return: 0; -ENOMEM beyond RLIMIT_MEMLOCK; -EOPNOTSUPP without io_uring, as no
 * command can use a region then.
 */
int nvme_ng_charge(struct nvme_ng_locked *locked, unsigned long pages,
		   unsigned int part)
{
	unsigned long limit = nvme_ng_memlock_limit() / part;
	struct user_struct *user = current_user();
	long old = atomic_long_read(&user->locked_vm);

	do {
		if (pages > limit || old > limit - pages)
			return -ENOMEM;
	} while (!atomic_long_try_cmpxchg(&user->locked_vm, &old, old + pages));
	locked->user = get_uid(user);
	locked->pages = pages;
	/* given back there, by whom it may be, so the mm must not end before */
	mmgrab(current->mm);
	locked->mm = current->mm;
	atomic64_add(pages, &locked->mm->pinned_vm);
	return 0;
}

/**
 * nvme_ng_uncharge - undo nvme_ng_charge()
 * @locked: the same; by any process
 */
void nvme_ng_uncharge(struct nvme_ng_locked *locked)
{
	atomic64_sub(locked->pages, &locked->mm->pinned_vm);
	mmdrop(locked->mm);
	atomic_long_sub(locked->pages, &locked->user->locked_vm);
	free_uid(locked->user);
	locked->user = NULL;
}
#else
/* users need not have a count of locked pages here */
int nvme_ng_charge(struct nvme_ng_locked *locked, unsigned long pages,
		   unsigned int part)
{
	return -EOPNOTSUPP;
}

void nvme_ng_uncharge(struct nvme_ng_locked *locked)
{
}
#endif

static int nvme_ng_pin_memory(struct nvme_ng_region *region, u64 addr)
{
	unsigned int offset = offset_in_page(addr);
	u64 left = region->len;
	unsigned long pages;
	struct page **page;
	int nr, ret;

	if (!access_ok(u64_to_user_ptr(addr), left))
		return -EFAULT;
	pages = DIV_ROUND_UP(offset + left, PAGE_SIZE);
	ret = nvme_ng_charge(&region->locked, pages, 1);
	if (ret)
		return ret;

	page = (struct page **)__get_free_page(GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	for (addr -= offset; pages; pages -= nr, offset = 0) {
		u64 bytes;

		ret = -EINTR;
		if (fatal_signal_pending(current))
			break;
		cond_resched();
		nr = nvme_ng_pin_longterm(addr, min_t(unsigned long, pages,
						      NVME_NG_PIN_PAGES),
					  !region->read_only, page);
		ret = nr < 0 ? nr : -EFAULT;
		if (nr <= 0)
			break;
		bytes = min_t(u64, left, (u64)nr * PAGE_SIZE - offset);
		ret = sg_alloc_append_table_from_pages(&region->mem, page, nr,
						       offset, bytes,
						       NVME_NG_MAX_SEGMENT,
						       pages - nr,
						       GFP_KERNEL_ACCOUNT);
		if (ret) {
			unpin_user_pages(page, nr);
			break;
		}
		addr += (u64)nr * PAGE_SIZE;
		left -= bytes;
	}
	free_page((unsigned long)page);
	return ret;
}

static void nvme_ng_free_open_memory(struct kref *ref)
{
	kfree(container_of(ref, struct nvme_ng_open, ref));
}

/**
 * nvme_ng_put_open - drop a reference
 * @open: may be freed
 */
void nvme_ng_put_open(struct nvme_ng_open *open)
{
	kref_put(&open->ref, nvme_ng_free_open_memory);
}

static void nvme_ng_free_region(struct nvme_ng_region *region)
{
	struct nvme_ng_open *open = region->open;
	struct nvme_ng_view *view, *next;
	struct scatterlist *sg;
	unsigned int i;

	for (view = rcu_dereference_protected(region->views, 1); view; view = next) {
		next = rcu_dereference_protected(view->next, 1);
		nvme_ng_free_view(region, view);
	}
	if (region->mem.sgt.sgl) {
		for_each_sgtable_sg(&region->mem.sgt, sg, i) {
			unpin_user_page_range_dirty_lock(sg_page(sg),
							 DIV_ROUND_UP(sg->offset + sg->length,
								      PAGE_SIZE),
							 !region->read_only);
			cond_resched();
		}
		sg_free_append_table(&region->mem);
	}
	if (region->locked.user)
		nvme_ng_uncharge(&region->locked);
	if (nvme_ng_is_dmabuf(region))
		nvme_ng_put_dmabuf(region);
	kfree(region->epoch);
	kfree(region);
	atomic_dec(&open->regions);
	nvme_ng_put_open(open);
}

/* What an epoch lets go of. */
static void nvme_ng_free_dead_region(struct nvme_ng_dead *dead)
{
	nvme_ng_free_region(container_of(dead, struct nvme_ng_region, dead));
}

/**
 * nvme_ng_new_epoch - allocate an epoch to come
 *
 * Return: for nvme_ng_retire() or kfree(), or NULL.
 */
struct nvme_ng_epoch *nvme_ng_new_epoch(void)
{
	struct nvme_ng_epoch *epoch;

	epoch = kzalloc_obj(*epoch, GFP_KERNEL_ACCOUNT);
	if (!epoch)
		return NULL;
	refcount_set(&epoch->ref, 1);
	INIT_LIST_HEAD(&epoch->dead);
	return epoch;
}

static struct nvme_ng_region *nvme_ng_new_region(struct nvme_ng_open *open,
						 const struct nvme_ng_map *m)
{
	struct nvme_ng_region *region;
	int ret;

	/* with those that wait for a command, so that there is an end to them */
	if (atomic_inc_return(&open->regions) > NVME_NG_MAX_REGIONS) {
		ret = -EMFILE;
		goto out_uncount;
	}
	ret = -ENOMEM;
	region = kzalloc_obj(*region, GFP_KERNEL_ACCOUNT);
	if (!region)
		goto out_uncount;
	region->open = open;
	kref_get(&open->ref);
	region->len = m->len;
	region->read_only = m->flags & NVME_NG_MAP_READ_ONLY;
	region->dead.free = nvme_ng_free_dead_region;
	region->epoch = nvme_ng_new_epoch();
	if (!region->epoch)
		goto out_free;
	if (m->flags & NVME_NG_MAP_DMABUF)
		ret = IS_ENABLED(CONFIG_DMA_SHARED_BUFFER) ?
			nvme_ng_get_dmabuf(region, m) : -EOPNOTSUPP;
	else
		ret = nvme_ng_pin_memory(region, m->addr);
	if (!ret)
		return region;
out_free:
	nvme_ng_free_region(region);
	return ERR_PTR(ret);

out_uncount:
	atomic_dec(&open->regions);
	return ERR_PTR(ret);
}

/* Epochs */

/*
 * All commands of the epoch, and of those before, have completed.  What waits
 * for that is told, in any context: an exporter may hold what letting go of
 * something needs.
 *
 * Return: true if the next epoch has ended, too, and @epoch is that now; false
 * if @epoch has all that is to be let go of.
 */
static bool nvme_ng_end_epoch(struct nvme_ng_epoch **epoch)
{
	struct nvme_ng_epoch *old = *epoch, *next = old->next;
	struct nvme_ng_dead *dead;

	/* no more than one: the end of an epoch ends one thing, or a file */
	list_for_each_entry(dead, &old->dead, list) {
		if (!dead->ended)
			break;
		dead->ended(dead);
		dead->ended = NULL;
	}
	if (!next || !refcount_dec_and_test(&next->ref))
		return false;
	list_splice_tail(&old->dead, &next->dead);
	kfree_rcu(old, rcu);
	*epoch = next;
	return true;
}

static void nvme_ng_free_epoch(struct nvme_ng_epoch *epoch)
{
	struct nvme_ng_dead *dead, *tmp;

	list_for_each_entry_safe(dead, tmp, &epoch->dead, list) {
		dead->free(dead);
		cond_resched();
	}
	kfree_rcu(epoch, rcu);
}

static void nvme_ng_free_work(struct work_struct *work)
{
	nvme_ng_free_epoch(container_of(work, struct nvme_ng_epoch, work));
}

static void nvme_ng_end_work(struct work_struct *work)
{
	struct nvme_ng_epoch *epoch = container_of(work, struct nvme_ng_epoch,
						   work);

	while (nvme_ng_end_epoch(&epoch))
		cond_resched();
	INIT_WORK(&epoch->work, nvme_ng_free_work);
	queue_work(nvme_ng_wq, &epoch->work);
}

/**
 * nvme_ng_leave_last - the last one leaves an epoch
 * @epoch: has no reference
 *
 * Any context.  It takes no longer if many epochs were waiting for this one.
 * Those that are told late are still told by a work item that waits neither for
 * memory nor for what letting go of something needs.
 */
void nvme_ng_leave_last(struct nvme_ng_epoch *epoch)
{
	unsigned int left = NVME_NG_END_AT_ONCE;

	while (nvme_ng_end_epoch(&epoch)) {
		if (--left)
			continue;
		INIT_WORK(&epoch->work, nvme_ng_end_work);
		queue_work(nvme_wq, &epoch->work);
		return;
	}
	INIT_WORK(&epoch->work, nvme_ng_free_work);
	queue_work(nvme_ng_wq, &epoch->work);
}

/* The last one leaves an epoch, and waits.  Process context, sleeps. */
static void nvme_ng_leave_and_free(struct nvme_ng_epoch *epoch)
{
	while (nvme_ng_end_epoch(&epoch))
		cond_resched();
	nvme_ng_free_epoch(epoch);
}

/**
 * nvme_ng_retire - end something with the commands of now and before
 * @open: the file
 * @epoch: the epoch that begins
 * @dead: nobody finds it any more
 *
 * Does not sleep.
 *
 * Return: the epoch before, of which the caller has to drop the reference with
 * nvme_ng_leave(); or NULL if the file is being closed: no command is in
 * flight, and nothing was done.
 */
struct nvme_ng_epoch *nvme_ng_retire(struct nvme_ng_open *open,
				     struct nvme_ng_epoch *epoch,
				     struct nvme_ng_dead *dead)
{
	struct nvme_ng_epoch *old;

	spin_lock(&open->epoch_lock);
	old = open->epoch;
	if (old) {
		/* those to be told are first */
		if (dead->ended)
			list_add(&dead->list, &old->dead);
		else
			list_add_tail(&dead->list, &old->dead);
		/* the one more is of the old epoch */
		refcount_inc(&epoch->ref);
		old->next = epoch;
		/* a command that enters the new epoch does not find it */
		smp_store_release(&open->epoch, epoch);
	}
	spin_unlock(&open->epoch_lock);
	return old;
}

/* Open files */

/* No command is in flight on it. */
static void nvme_ng_free_path(struct nvme_ng_path *path)
{
	struct module *module = path->ns->ctrl->ops->module;

	nvme_ng_release_queues(path);
	nvme_ng_put_device(path->device);
	nvme_put_ns(path->ns);
	module_put(module);
	kfree(path);
}

static void nvme_ng_free_open(struct nvme_ng_open *open)
{
	struct nvme_ng_path *path, *next;
	struct nvme_ng_epoch *epoch;
	struct nvme_ng_table *table;
	unsigned int i;
	LIST_HEAD(dead);

	if (IS_ENABLED(CONFIG_MMU_NOTIFIER))
		nvme_ng_free_mappings(open);
	nvme_ng_free_results(open);
	table = rcu_dereference_protected(open->table, 1);
	for (i = 0; table && i < table->nr; i++) {
		struct nvme_ng_region *region =
			rcu_dereference_protected(table->region[i], 1);

		if (region)
			list_add(&region->dead.list, &dead);
	}
	spin_lock(&open->epoch_lock);
	epoch = open->epoch;
	open->epoch = NULL;
	if (epoch)
		list_splice_tail(&dead, &epoch->dead);
	spin_unlock(&open->epoch_lock);
	if (epoch && refcount_dec_and_test(&epoch->ref))
		nvme_ng_leave_and_free(epoch);
	for (path = rcu_dereference_protected(open->paths, 1); path; path = next) {
		next = rcu_dereference_protected(path->next, 1);
		nvme_ng_free_path(path);
	}
	kvfree(table);
	nvme_ng_put_open(open);
}

/**
 * nvme_ng_release - part of ->release() of a node
 * @file: the last descriptor of it was closed, no command is in flight
 */
void nvme_ng_release(struct file *file)
{
	if (file->private_data)
		nvme_ng_free_open(file->private_data);
}

/**
 * nvme_ng_chr_release - all of ->release(), where a node needs no more
 * @inode: the node
 * @file: as for nvme_ng_release()
 *
 * Return: 0.
 */
int nvme_ng_chr_release(struct inode *inode, struct file *file)
{
	nvme_ng_release(file);
	return 0;
}

/**
 * nvme_ng_show_fdinfo - ->show_fdinfo() of a node
 * @m: /proc/PID/fdinfo/FD
 * @file: the node
 *
 * What the file has here: regions, their bytes, the pages that are pinned for
 * them, and the queues that its commands take.  Process context; waits for
 * nothing that a program can hold up.
 */
void nvme_ng_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct nvme_ng_open *open = nvme_ng_file_open(file);
	struct nvme_ng_region *region;
	struct nvme_ng_table *table;
	unsigned int i, nr = 0;
	u64 bytes = 0, pages = 0;

	if (!open)
		return;
	/* not in an epoch, which would hold up what is unmapped meanwhile */
	mutex_lock(&open->lock);
	table = rcu_dereference_protected(open->table, 1);
	for (i = 0; i < table->nr; i++) {
		cond_resched();
		region = rcu_dereference_protected(table->region[i], 1);
		if (!region)
			continue;
		nr++;
		bytes += region->len;
		pages += region->locked.pages;
	}
	mutex_unlock(&open->lock);
	seq_printf(m, "nvme-regions:\t%u\n", nr);
	seq_printf(m, "nvme-region-bytes:\t%llu\n", bytes);
	seq_printf(m, "nvme-region-pinned:\t%llu KiB\n",
		   pages << (PAGE_SHIFT - 10));
	nvme_ng_show_lanes(m, open);
}

/**
 * nvme_ng_get_open - what an open node has, made when it is wanted first
 * @file: the node
 *
 * Process context, sleeps.  Return: it, until the file is closed, or NULL
 * without memory.
 */
struct nvme_ng_open *nvme_ng_get_open(struct file *file)
{
	struct nvme_ng_open *open = nvme_ng_file_open(file), *old;
	struct nvme_ng_table *table;
	struct nvme_ng_epoch *epoch;

	if (open)
		return open;
	open = kzalloc_obj(*open, GFP_KERNEL_ACCOUNT);
	if (!open)
		return NULL;
	kref_init(&open->ref);
	mutex_init(&open->lock);
	spin_lock_init(&open->epoch_lock);
	INIT_LIST_HEAD(&open->attached);
	open->write = file->f_mode & FMODE_WRITE;
	table = kvzalloc(struct_size(table, region, 8), GFP_KERNEL_ACCOUNT);
	epoch = nvme_ng_new_epoch();
	RCU_INIT_POINTER(open->table, table);
	open->epoch = epoch;
	if (!table || !epoch) {
		nvme_ng_free_open(open);
		return NULL;
	}
	table->nr = 8;
	open->next = 1;
	old = cmpxchg((struct nvme_ng_open **)&file->private_data, NULL, open);
	if (!old)
		return open;
	nvme_ng_free_open(open);
	return old;
}

static void nvme_ng_learn_opcodes(struct nvme_ng_path *path, bool write)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(path->op); i++)
		if (nvme_ng_io_is_free(path->ns->ctrl, path->ns, i, write))
			path->op[i] = NVME_NG_OP_ALLOWED;
}

/*
 * Let a device see a region, unless it does.  There is no view where the error
 * lasts; with any other one the caller has to give up.
 */
static int nvme_ng_add_view(struct nvme_ng_region *region,
			    struct nvme_ng_device *device)
{
	struct nvme_ng_view *view, *first;

	first = rcu_dereference_protected(region->views, 1);
	for (view = first; view; view = rcu_dereference_protected(view->next, 1))
		if (view->device == device)
			return 0;
	view = nvme_ng_new_view(region, device);
	if (IS_ERR(view))
		return PTR_ERR(view);
	RCU_INIT_POINTER(view->next, first);
	rcu_assign_pointer(region->views, view);
	return 0;
}

static struct nvme_ng_path *nvme_ng_new_path(struct nvme_ng_open *open,
					     struct nvme_ns *ns)
{
	struct nvme_ng_path *path;

	path = kzalloc_obj(*path, GFP_KERNEL_ACCOUNT);
	if (!path)
		return ERR_PTR(-ENOMEM);
	path->ns = ns;
	path->lane[0].path = path;
	path->lane[1].path = path;
	path->device = nvme_ng_get_device(ns->ctrl);
	if (!path->device)
		goto out_free;
	/* a head does not keep the module of its paths */
	if (!try_module_get(ns->ctrl->ops->module))
		goto out_put_device;
	if (!kref_get_unless_zero(&ns->kref))
		goto out_put_module;
	nvme_ng_learn_opcodes(path, open->write);
	return path;

out_put_module:
	module_put(ns->ctrl->ops->module);
out_put_device:
	nvme_ng_put_device(path->device);
out_free:
	kfree(path);
	return ERR_PTR(-ENODEV);
}

/*
 * Who waits for the lock may keep the removal of a namespace waiting, so who has
 * it must not wait for a program, nor for I/O that comes to an end only when
 * the namespace is removed.
 */
static unsigned int nvme_ng_lock_open(struct nvme_ng_open *open)
{
	mutex_lock(&open->lock);
	return memalloc_noio_save();
}

static void nvme_ng_unlock_open(struct nvme_ng_open *open, unsigned int noio)
{
	memalloc_noio_restore(noio);
	mutex_unlock(&open->lock);
}

/**
 * nvme_ng_get_path - find the path to a namespace, add it if it is new
 * @open: the file
 * @ns: namespace, alive
 *
 * Regions that cannot be mapped for the new controller do not exist for
 * commands that go there.  Process context, sleeps, also where what is read
 * under SRCU keeps the controller.
 *
 * Return: the path, or an ERR_PTR() of -ENODEV, or of -ENOMEM or another error
 * that does not last.
 */
struct nvme_ng_path *nvme_ng_get_path(struct nvme_ng_open *open,
				      struct nvme_ns *ns)
{
	struct nvme_ng_table *table;
	struct nvme_ng_path *path;
	unsigned int i, noio;
	int ret;

	path = nvme_ng_find_path(open, ns);
	if (path)
		return path;
	noio = nvme_ng_lock_open(open);
	path = nvme_ng_find_path(open, ns);
	if (path)
		goto out;
	path = nvme_ng_new_path(open, ns);
	if (IS_ERR(path))
		goto out;
	table = rcu_dereference_protected(open->table, 1);
	for (i = 0; i < table->nr; i++) {
		struct nvme_ng_region *region =
			rcu_dereference_protected(table->region[i], 1);

		ret = region ? nvme_ng_add_view(region, path->device) : 0;
		/* nobody may wait for that here */
		if (!ret && region && nvme_ng_is_dmabuf(region) &&
		    !nvme_ng_dmabuf_is_ready(region))
			ret = -EAGAIN;
		if (ret && !nvme_ng_error_lasts(ret)) {
			nvme_ng_free_path(path);
			path = ERR_PTR(ret);
			goto out;
		}
	}
	RCU_INIT_POINTER(path->next, rcu_dereference_protected(open->paths, 1));
	rcu_assign_pointer(open->paths, path);
out:
	nvme_ng_unlock_open(open, noio);
	return path;
}

/* Find a free handle, make room for it; 0 if there is none. */
static int nvme_ng_new_handle(struct nvme_ng_open *open, u32 *handle)
{
	struct nvme_ng_table *old, *table;
	unsigned int i, nr;

	old = rcu_dereference_protected(open->table, 1);
	for (i = open->next; i < old->nr; i++)
		if (!rcu_access_pointer(old->region[i]))
			break;
	open->next = i;
	*handle = i;
	if (i < old->nr)
		return 0;
	/* up to NVME_NG_MAX_REGIONS, as there are no more regions */
	nr = 2 * old->nr;
	table = kvzalloc(struct_size(table, region, nr), GFP_KERNEL_ACCOUNT);
	if (!table)
		return -ENOMEM;
	memcpy(table, old, struct_size(old, region, old->nr));
	table->nr = nr;
	rcu_assign_pointer(open->table, table);
	kvfree_rcu(old, rcu);
	return 0;
}

/* Map a region for the paths before @end, of which @wanted must succeed. */
static int nvme_ng_map_paths(struct nvme_ng_region *region,
			     struct nvme_ng_path *path,
			     const struct nvme_ng_path *end,
			     const struct nvme_ng_path *wanted)
{
	int ret;

	for (; path != end; path = rcu_dereference_protected(path->next, 1)) {
		ret = nvme_ng_add_view(region, path->device);
		if (ret && (path == wanted || !nvme_ng_error_lasts(ret)))
			return ret;
	}
	return 0;
}

/* The region is in use once this returned 0. */
static int nvme_ng_publish(struct nvme_ng_open *open,
			   struct nvme_ng_region *region,
			   const struct nvme_ng_path *wanted, u32 *handle,
			   u32 *granule)
{
	struct nvme_ng_path *first, *mapped = NULL;
	struct nvme_ng_table *table;
	struct nvme_ng_view *view;
	unsigned int noio;
	int ret;

	/* mapping takes its time: without the lock, until no path is new */
	for (;;) {
		noio = nvme_ng_lock_open(open);
		first = rcu_dereference_protected(open->paths, 1);
		if (first == mapped)
			break;
		nvme_ng_unlock_open(open, noio);
		ret = nvme_ng_map_paths(region, first, mapped, wanted);
		if (!ret && nvme_ng_is_dmabuf(region))
			ret = nvme_ng_wait_dmabuf(region);
		if (ret)
			return ret;
		mapped = first;
	}
	*granule = 0;
	for (view = rcu_dereference_protected(region->views, 1); view;
	     view = rcu_dereference_protected(view->next, 1))
		if (!view->one)
			*granule = NVME_CTRL_PAGE_SIZE;
	ret = nvme_ng_new_handle(open, handle);
	if (!ret) {
		table = rcu_dereference_protected(open->table, 1);
		rcu_assign_pointer(table->region[*handle], region);
	}
	nvme_ng_unlock_open(open, noio);
	return ret;
}

/*
 * Take a region, or with @region only that, out of use.  It needs no memory:
 * the epoch to come is the region's.
 */
static int nvme_ng_withdraw(struct nvme_ng_open *open, u32 handle,
			    const struct nvme_ng_region *only)
{
	struct nvme_ng_epoch *epoch, *old;
	struct nvme_ng_region *region;
	struct nvme_ng_table *table;

	mutex_lock(&open->lock);
	table = rcu_dereference_protected(open->table, 1);
	if (handle >= table->nr)
		goto out_unlock;
	handle = array_index_nospec(handle, table->nr);
	region = rcu_dereference_protected(table->region[handle], 1);
	if (!region || (only && region != only))
		goto out_unlock;
	RCU_INIT_POINTER(table->region[handle], NULL);
	open->next = min(open->next, handle);
	epoch = region->epoch;
	region->epoch = NULL;
	old = nvme_ng_retire(open, epoch, &region->dead);
	mutex_unlock(&open->lock);
	if (refcount_dec_and_test(&old->ref))
		nvme_ng_leave_and_free(old);
	return 0;

out_unlock:
	mutex_unlock(&open->lock);
	return -ENOENT;
}

/**
 * nvme_ng_ioctl_map - NVME_NG_IOCTL_MAP
 * @file: the open node
 * @ns: its namespace, or the usable path of a head
 * @arg: struct nvme_ng_map of the program
 *
 * Return: 0 or a negative errno, as <linux/nvme_ng.h> says.
 */
int nvme_ng_ioctl_map(struct file *file, struct nvme_ns *ns, void __user *arg)
{
	struct nvme_ng_map __user *u = arg;
	struct nvme_ng_region *region;
	struct nvme_ng_path *path;
	struct nvme_ng_open *open;
	struct nvme_ng_map m;
	u32 size;
	int ret;

	if (get_user(size, (u32 __user *)arg))
		return -EFAULT;
	if (size < sizeof(m) || size > PAGE_SIZE)
		return -EINVAL;
	ret = copy_struct_from_user(&m, sizeof(m), arg, size);
	if (ret)
		return ret == -E2BIG ? -EINVAL : ret;
	if (m.flags & ~(NVME_NG_MAP_READ_ONLY | NVME_NG_MAP_DMABUF) || m.rsvd ||
	    !m.len || m.len > NVME_NG_MAX_LEN || m.addr + m.len < m.addr)
		return -EINVAL;
	if (!(m.flags & NVME_NG_MAP_DMABUF) && m.dmabuf_fd != -1)
		return -EINVAL;

	open = nvme_ng_get_open(file);
	if (!open)
		return -ENOMEM;
	path = nvme_ng_get_path(open, ns);
	if (IS_ERR(path))
		return PTR_ERR(path);
	region = nvme_ng_new_region(open, &m);
	if (IS_ERR(region))
		return PTR_ERR(region);
	ret = nvme_ng_publish(open, region, path, &m.region, &m.granule);
	if (ret) {
		nvme_ng_free_region(region);
		return ret;
	}
	if (!put_user(m.region, &u->region) && !put_user(m.granule, &u->granule))
		return 0;
	/* unless a program that guessed the handle was faster */
	nvme_ng_withdraw(open, m.region, region);
	return -EFAULT;
}

/**
 * nvme_ng_ioctl_unmap - NVME_NG_IOCTL_UNMAP
 * @file: the open node
 * @arg: handle of the program
 *
 * Return: 0 or a negative errno, as <linux/nvme_ng.h> says.
 */
int nvme_ng_ioctl_unmap(struct file *file, void __user *arg)
{
	struct nvme_ng_open *open = nvme_ng_file_open(file);
	u32 handle;

	if (get_user(handle, (u32 __user *)arg))
		return -EFAULT;
	return open ? nvme_ng_withdraw(open, handle, NULL) : -ENOENT;
}
