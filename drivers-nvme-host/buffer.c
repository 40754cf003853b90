// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-ng: from the buffers of a program to the data pointer of a command.
 *
 * The block layer is not involved: no bio, no limit but those of the
 * controller, and no copy unless the controller cannot take the buffer as it
 * is.
 */
#include <linux/blk-integrity.h>
#include <linux/device.h>
#include <linux/dmapool.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>
#include "ng.h"

#define NVME_NG_LIST_BYTES	NVME_CTRL_PAGE_SIZE
#define NVME_NG_LIST_SGLS	(NVME_NG_LIST_BYTES / sizeof(struct nvme_sgl_desc))
#define NVME_NG_LIST_PRPS	(NVME_NG_LIST_BYTES / sizeof(__le64))

/* pages pinned at a time */
#define NVME_NG_PIN_BATCH	32

static void nvme_ng_table_free(struct nvme_ng_buf *buf, struct scatterlist *sg)
{
	if (sg != buf->few)
		kvfree(sg);
}

/* Where the next piece of memory goes to. */
struct nvme_ng_cursor {
	struct nvme_ng_buf	*buf;
	phys_addr_t		end;	/* of the last one */
	unsigned int		room;	/* elements of the table */
	const struct iovec	*iov;	/* all segments */
	unsigned int		nr;	/* of @iov */
	u64			max;	/* bytes that they may have */
};

static __always_inline struct nvme_ng_cursor
nvme_ng_cursor(struct nvme_ng_buf *buf, const struct iovec *iov,
	       unsigned int nr, u64 max)
{
	return (struct nvme_ng_cursor) {
		.buf	= buf,
		.room	= buf->nr_few,
		.iov	= iov,
		.nr	= nr,
		.max	= max,
	};
}

/* The table is full: one for every page takes its place. */
static int nvme_ng_table_grow(struct nvme_ng_cursor *at)
{
	struct nvme_ng_buf *buf = at->buf;
	struct scatterlist *sg;
	unsigned int i, pages = 0;
	u64 left = at->max;

	/* what is too long has not been looked at yet */
	for (i = 0; i < at->nr && at->iov[i].iov_len <= left; i++) {
		left -= at->iov[i].iov_len;
		pages += DIV_ROUND_UP(offset_in_page(at->iov[i].iov_base) +
				      at->iov[i].iov_len, PAGE_SIZE);
	}
	/* only what is not of user memory comes in less than pages */
	at->room = max(pages, 2 * at->room);
	/* one array whatever its size: the device does not look at it */
	sg = kvmalloc_array(at->room, sizeof(*sg), GFP_KERNEL_ACCOUNT);
	if (!sg)
		return -ENOMEM;
	memcpy(sg, buf->user, buf->nr_user * sizeof(*sg));
	nvme_ng_table_free(buf, buf->user);
	buf->user = sg;
	return 0;
}

/* Append a piece of memory, which is often next to the one before. */
static __always_inline int nvme_ng_add(struct nvme_ng_cursor *at,
				       struct page *page, unsigned int offset,
				       u32 len)
{
	phys_addr_t phys = page_to_phys(page) + offset;
	struct nvme_ng_buf *buf = at->buf;
	struct scatterlist *sg;
	int ret;

	if (phys == at->end && buf->nr_user) {
		buf->user[buf->nr_user - 1].length += len;
		at->end += len;
		/* two segments meet within a page: it was pinned for each */
		if (buf->pinned && offset)
			unpin_user_page(page);
		return 0;
	}

	if (buf->nr_user)
		buf->seams |= at->end | phys;
	if (unlikely(buf->nr_user == at->room)) {
		ret = nvme_ng_table_grow(at);
		if (ret)
			return ret;
	}
	sg = &buf->user[buf->nr_user++];
	memset(sg, 0, sizeof(*sg));
	sg_set_page(sg, page, len, offset);
	at->end = phys + len;
	return 0;
}

static int nvme_ng_pin(struct nvme_ng_cursor *at, const struct iovec *iov)
{
	const void __user *addr = iov->iov_base;
	size_t left = iov->iov_len;

	while (left) {
		struct page *pages[NVME_NG_PIN_BATCH];
		unsigned int offset = offset_in_page(addr);
		int i, j, ret;
		int nr = min_t(size_t, NVME_NG_PIN_BATCH,
			       DIV_ROUND_UP(offset + left, PAGE_SIZE));

		nr = nvme_ng_pin_pages(addr, nr, at->buf->dir, pages);
		if (nr < 0)
			return nr;
		for (i = 0; i < nr; i = j) {
			size_t len;

			for (j = i + 1; j < nr; j++)
				if (pages[j] != pages[j - 1] + 1)
					break;
			len = min_t(size_t, left, (j - i) * PAGE_SIZE - offset);
			ret = nvme_ng_add(at, pages[i], offset, len);
			if (ret) {
				unpin_user_pages(pages + i, nr - i);
				return ret;
			}
			addr += len;
			left -= len;
			offset = 0;
		}
	}
	return 0;
}

static __always_inline int nvme_ng_add_bvecs(struct nvme_ng_cursor *at,
					     const struct bio_vec *bv,
					     size_t offset, size_t left)
{
	int ret = 0;

	for (; left && !ret; bv++) {
		size_t len = min_t(size_t, left, bv->bv_len - offset);
		size_t start = bv->bv_offset + offset;

		ret = nvme_ng_add(at, bv->bv_page + start / PAGE_SIZE,
				  start % PAGE_SIZE, len);
		left -= len;
		offset = 0;
	}
	return ret;
}

/* The end of an import, with its result. */
static int nvme_ng_imported(struct nvme_ng_buf *buf, int ret)
{
	if (buf->nr_user)
		sg_mark_end(&buf->user[buf->nr_user - 1]);
	if (ret)
		nvme_ng_buf_release(buf, false);
	return ret;
}

/**
 * nvme_ng_buf_import_found - get hold of a part of a registered buffer
 * @buf: the buffer, as nvme_ng_buf_init() left it
 * @iov: the part, whose length fits u32
 * @bv: where it begins, as nvme_ng_find_fixed() has told for this command
 * @offset: into @bv
 *
 * Process context.  Return: 0; -ENOMEM, then @buf holds nothing.
 */
int nvme_ng_buf_import_found(struct nvme_ng_buf *buf, const struct iovec *iov,
			     const struct bio_vec *bv, size_t offset)
{
	struct nvme_ng_cursor at = nvme_ng_cursor(buf, iov, 1, iov->iov_len);

	buf->len = iov->iov_len;
	return nvme_ng_imported(buf, nvme_ng_add_bvecs(&at, bv, offset,
						       iov->iov_len));
}

/**
 * nvme_ng_buf_import - get hold of the memory of a user buffer
 * @buf: the buffer, as nvme_ng_buf_init() left it
 * @iov: segments; one of length 0 is passed over
 * @nr: number of segments
 * @max: bytes that there may be, no more than fit u32
 * @ioucmd: io_uring command whose registered buffer @iov is in, or NULL for
 *	memory of the current process
 * @issue_flags: as io_uring gave them
 *
 * Process context.
 *
 * Return: 0; -EINVAL if there is more than @max; -EFAULT if the memory is not
 * there or may not be used that way; -ENOMEM.  On error @buf holds nothing.
 */
int nvme_ng_buf_import(struct nvme_ng_buf *buf, const struct iovec *iov,
		       unsigned int nr, u64 max, struct io_uring_cmd *ioucmd,
		       unsigned int issue_flags)
{
	struct nvme_ng_cursor at = nvme_ng_cursor(buf, iov, nr, max);
	struct iov_iter iter;
	unsigned int i;
	int ret = 0;

	buf->pinned = !ioucmd;
	for (i = 0; !ret && i < nr; i++) {
		size_t len = iov[i].iov_len;

		if (!len)
			continue;
		if (len > max) {
			ret = -EINVAL;
			break;
		}
		max -= len;
		buf->len += len;
		if (!ioucmd) {
			ret = nvme_ng_pin(&at, &iov[i]);
			continue;
		}
		ret = nvme_ng_find_fixed(buf->dir, &iov[i], ioucmd,
					 issue_flags, &iter);
		if (!ret)
			ret = nvme_ng_add_bvecs(&at, iter.bvec,
						iter.iov_offset, len);
	}
	return nvme_ng_imported(buf, ret);
}

/* Let the device work on memory of the kernel in place of the user's. */
static int nvme_ng_bounce(struct nvme_ng_buf *buf, bool contig)
{
	unsigned int i, nr = contig ? 1 : DIV_ROUND_UP(buf->dev_len, PAGE_SIZE);
	struct scatterlist *sg;

	if (contig)
		buf->bounce = kzalloc(buf->dev_len, GFP_KERNEL_ACCOUNT);
	else
		buf->bounce = __vmalloc(buf->dev_len,
					GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!buf->bounce)
		return -ENOMEM;

	/* @few are of the user already */
	sg = kvmalloc_array(nr, sizeof(*sg), GFP_KERNEL_ACCOUNT);
	if (!sg) {
		kvfree(buf->bounce);
		buf->bounce = NULL;
		return -ENOMEM;
	}
	sg_init_table(sg, nr);
	if (contig)
		sg_set_buf(sg, buf->bounce, buf->dev_len);
	else
		for (i = 0; i < nr; i++)
			sg_set_page(&sg[i],
				    vmalloc_to_page(buf->bounce + i * PAGE_SIZE),
				    min_t(u32, PAGE_SIZE,
					  buf->dev_len - i * PAGE_SIZE), 0);
	buf->dev = sg;
	buf->nr_dev = nr;

	if (buf->dir != DMA_FROM_DEVICE && buf->nr_user)
		sg_copy_to_buffer(buf->user, buf->nr_user, buf->bounce,
				  buf->len);
	return 0;
}

/* Can the device take the memory of the user as it is? */
static bool nvme_ng_fits(const struct nvme_ng_buf *buf, u32 align_mask,
			 u32 gap_mask, bool contig)
{
	const struct scatterlist *first = buf->user, *last;

	if (buf->dev_len > buf->len || (contig && buf->nr_user > 1))
		return false;
	last = first + buf->nr_user - 1;
	return !(buf->seams & (align_mask | gap_mask)) &&
		!((first->offset | (last->offset + last->length)) & align_mask);
}

/**
 * nvme_ng_buf_map - map a buffer for DMA
 * @buf: an imported buffer
 * @dev: the device
 * @len: bytes that the device may move at least; what is beyond the buffer
 *	of the user is lost
 * @align_mask: bits that must be clear in the address and length of a segment
 * @gap_mask: bits that must be clear where two segments meet
 * @contig: the device sees one contiguous piece only
 *
 * Process context.  Return: 0, or -ENOMEM, or the errno of the DMA mapping.
 */
int nvme_ng_buf_map(struct nvme_ng_buf *buf, struct device *dev, u32 len,
		    u32 align_mask, u32 gap_mask, bool contig)
{
	int ret;

	buf->dev_len = max(ALIGN(buf->len, align_mask + 1), len);
	if (!buf->dev_len)
		return 0;

	if (nvme_ng_fits(buf, align_mask, gap_mask, contig)) {
		buf->dev = buf->user;
		buf->nr_dev = buf->nr_user;
	} else {
		ret = nvme_ng_bounce(buf, contig);
		if (ret)
			return ret;
	}

	if (buf->nr_dev == 1) {
		struct scatterlist *sg = buf->dev;
		dma_addr_t dma;

		dma = dma_map_page_attrs(dev, sg_page(sg), sg->offset,
					 sg->length, buf->dir, NVME_NG_OVERLAP);
		if (dma_mapping_error(dev, dma))
			return -ENOMEM;
		sg->dma_address = dma;
		sg_dma_len(sg) = sg->length;
		buf->nr_dma = 1;
	} else {
		struct sg_table sgt = {
			.sgl = buf->dev,
			.orig_nents = buf->nr_dev,
		};

		ret = dma_map_sgtable(dev, &sgt, buf->dir, NVME_NG_OVERLAP);
		if (ret)
			return ret == -EREMOTEIO ? -EINVAL : ret;
		buf->nr_dma = sgt.nents;
	}
	buf->mapped = true;
	return 0;
}

/**
 * nvme_ng_buf_unmap - end the DMA mapping of a buffer
 * @buf: the buffer
 * @dev: the device
 *
 * Any context.
 */
void nvme_ng_buf_unmap(struct nvme_ng_buf *buf, struct device *dev)
{
	if (!buf->mapped)
		return;
	buf->mapped = false;
	if (buf->premapped)
		return;
	if (buf->nr_dev == 1)
		dma_unmap_page(dev, buf->dev->dma_address, buf->dev->length,
			       buf->dir);
	else
		dma_unmap_sg(dev, buf->dev, buf->nr_dev, buf->dir);
}

/**
 * nvme_ng_buf_release - let go of the memory of a buffer
 * @buf: the buffer, not mapped
 * @copy: the command moved data that the user is to see
 *
 * Process context; the user's address space is not needed.
 *
 * Return: 0, or -EFAULT if data was lost, which cannot happen to memory that
 * is pinned.
 */
int nvme_ng_buf_release(struct nvme_ng_buf *buf, bool copy)
{
	bool dirty = copy && buf->dir != DMA_TO_DEVICE;
	struct scatterlist *sg;
	unsigned int i;
	int ret = 0;

	if (buf->bounce) {
		if (dirty && sg_copy_from_buffer(buf->user, buf->nr_user,
						 buf->bounce,
						 buf->len) != buf->len)
			ret = -EFAULT;
		nvme_ng_table_free(buf, buf->dev);
		kvfree(buf->bounce);
		buf->bounce = NULL;
	}
	if (buf->pinned)
		for (i = 0; i < buf->nr_user; i++) {
			sg = &buf->user[i];
			unpin_user_page_range_dirty_lock(sg_page(sg),
							 DIV_ROUND_UP(sg->offset + sg->length,
								      PAGE_SIZE), dirty);
		}
	nvme_ng_table_free(buf, buf->user);
	buf->user = buf->few;
	buf->nr_user = 0;
	return ret;
}

/*
 * Descriptor memory comes from pools of the device that live until the driver
 * is unbound, after the last request has ended.  What is not needed is cleared
 * all the same, which is why there are sizes for 16, 64 and 128 KiB in pages.
 */
static const unsigned int nvme_ng_pool_bytes[] = {
	64, 256, 512, NVME_NG_LIST_BYTES
};

struct nvme_ng_pools {
	struct dma_pool	*pool[ARRAY_SIZE(nvme_ng_pool_bytes)];
};

static void nvme_ng_pools_destroy(struct device *dev, void *res)
{
	struct nvme_ng_pools *p = res;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(p->pool); i++)
		dma_pool_destroy(p->pool[i]);
}

static struct nvme_ng_pools *nvme_ng_pools(struct device *dev)
{
	struct nvme_ng_pools *p, new;
	unsigned int i;

	p = devres_find(dev, nvme_ng_pools_destroy, NULL, NULL);
	if (p)
		return p;

	p = devres_alloc(nvme_ng_pools_destroy, sizeof(*p), GFP_KERNEL);
	if (!p)
		return NULL;
	for (i = 0; i < ARRAY_SIZE(p->pool); i++) {
		p->pool[i] = dma_pool_create("nvme-ng", dev,
					     nvme_ng_pool_bytes[i],
					     nvme_ng_pool_bytes[i], 0);
		if (!p->pool[i]) {
			nvme_ng_pools_destroy(dev, p);
			devres_free(p);
			return NULL;
		}
	}
	new = *p;
	/* another command may have been first: @p is freed, not released */
	p = devres_get(dev, p, NULL, NULL);
	if (p->pool[0] != new.pool[0])
		nvme_ng_pools_destroy(dev, &new);
	return p;
}

/* Room for @bytes of descriptors, or a page of them. */
static struct nvme_ng_list *nvme_ng_new_list(struct device *dev, size_t bytes,
					     struct nvme_ng_list *first)
{
	struct nvme_ng_pools *p = nvme_ng_pools(dev);
	struct nvme_ng_list *l = first;
	unsigned int i = 0;

	if (!p)
		return NULL;
	if (first->desc) {
		l = kmalloc_obj(*l);
		if (!l)
			return NULL;
	}
	while (bytes > nvme_ng_pool_bytes[i] && i < ARRAY_SIZE(p->pool) - 1)
		i++;
	l->pool = p->pool[i];
	l->desc = dma_pool_alloc(l->pool, GFP_KERNEL, &l->dma);
	if (l == first)
		return l->desc ? l : NULL;
	if (!l->desc) {
		kfree(l);
		return NULL;
	}
	l->next = first->next;
	first->next = l;
	return l;
}

/**
 * nvme_ng_free_lists - free the descriptor memory of a command
 * @first: what the command has; there is none afterwards
 *
 * Any context, before the request ends.
 */
void nvme_ng_free_lists(struct nvme_ng_list *first)
{
	struct nvme_ng_list *l = first, *next;

	if (!first->desc)
		return;
	do {
		next = l->next;
		dma_pool_free(l->pool, l->desc, l->dma);
		if (l != first)
			kfree(l);
		l = next;
	} while (l);
	first->desc = NULL;
	first->next = NULL;
}

/**
 * nvme_ng_describe_one - fill in a data pointer that needs no list
 * @dma: where the data is
 * @len: bytes; without @sgl not beyond the second page
 * @sgl: describe it as a Scatter Gather List, which carries its length
 * @cmd: the command, in place
 */
void nvme_ng_describe_one(dma_addr_t dma, u32 len, bool sgl,
			  struct nvme_command *cmd)
{
	dma_addr_t next = ALIGN_DOWN(dma, NVME_CTRL_PAGE_SIZE) +
		NVME_CTRL_PAGE_SIZE;

	if (sgl) {
		cmd->common.flags |= NVME_CMD_SGL_METABUF;
		nvme_ng_sgl_set(&cmd->common.dptr.sgl, dma, len,
				NVME_SGL_FMT_DATA_DESC);
		return;
	}
	cmd->common.dptr.prp1 = cpu_to_le64(dma);
	if (dma + len > next)
		cmd->common.dptr.prp2 = cpu_to_le64(next);
}

/* NVM Express Base specification, Scatter Gather List */
static int nvme_ng_sgl(struct nvme_ng_buf *buf, struct device *dev,
		       struct nvme_sgl_desc *slot, struct nvme_ng_list *lists)
{
	unsigned int left = buf->nr_dma;
	struct scatterlist *sg = buf->dev;

	if (left == 1) {
		nvme_ng_sgl_set(slot, sg_dma_address(sg), sg_dma_len(sg),
				NVME_SGL_FMT_DATA_DESC);
		return 0;
	}
	while (left) {
		unsigned int i, nr = min_t(unsigned int, left, NVME_NG_LIST_SGLS);
		struct nvme_ng_list *l;
		struct nvme_sgl_desc *d;

		l = nvme_ng_new_list(dev, nr * sizeof(*d), lists);
		if (!l)
			return -ENOMEM;
		/* all but the last page end in a descriptor of the next one */
		nvme_ng_sgl_set(slot, l->dma, nr * sizeof(*d),
				nr == left ? NVME_SGL_FMT_LAST_SEG_DESC :
					     NVME_SGL_FMT_SEG_DESC);
		d = l->desc;
		if (nr < left)
			slot = &d[--nr];
		for (i = 0; i < nr; i++, sg++)
			nvme_ng_sgl_set(&d[i], sg_dma_address(sg),
					sg_dma_len(sg), NVME_SGL_FMT_DATA_DESC);
		left -= nr;
	}
	return 0;
}

/*
 * The first list of @nr PRP entries, which may begin anywhere in a page.  Some
 * controllers (NVME_QUIRK_DMAPOOL_ALIGN_512) take what is in the last slot of a
 * page for the address of more entries whatever follows.  So no list has an
 * entry there: it has room for one more, and begins one slot late if otherwise
 * its last page would be full.
 */
static __le64 *nvme_ng_first_prps(struct device *dev, u32 nr, __le64 *prp2,
				  unsigned int *slot,
				  struct nvme_ng_list *lists)
{
	struct nvme_ng_list *l;

	l = nvme_ng_new_list(dev, (nr + 1) * sizeof(*prp2), lists);
	if (!l)
		return NULL;
	*slot = nr > NVME_NG_LIST_PRPS - 1 &&
		nr % (NVME_NG_LIST_PRPS - 1) == 1;
	*prp2 = cpu_to_le64(l->dma + *slot * sizeof(*prp2));
	return (__le64 *)l->desc + *slot;
}

/* NVM Express Base specification, Physical Region Page Entry and List */
static int nvme_ng_prp(struct nvme_ng_buf *buf, struct device *dev, u32 left,
		       struct nvme_command *cmd, struct nvme_ng_list *lists)
{
	struct scatterlist *sg = buf->dev;
	dma_addr_t addr = sg_dma_address(sg);
	u32 step = NVME_CTRL_PAGE_SIZE - (addr & (NVME_CTRL_PAGE_SIZE - 1));
	u32 sg_left = sg_dma_len(sg);
	__le64 *slot = &cmd->common.dptr.prp2;
	unsigned int i = 0;

	cmd->common.dptr.prp1 = cpu_to_le64(addr);
	if (left > step && left - step > NVME_CTRL_PAGE_SIZE) {
		/* prp2 is a list */
		slot = nvme_ng_first_prps(dev, DIV_ROUND_UP(left - step,
							    NVME_CTRL_PAGE_SIZE),
					  slot, &i, lists);
		if (!slot)
			return -ENOMEM;
	}
	while (left > step) {
		left -= step;
		addr += step;
		sg_left -= min(step, sg_left);
		if (!sg_left) {
			sg++;
			addr = sg_dma_address(sg);
			sg_left = sg_dma_len(sg);
		}
		step = NVME_CTRL_PAGE_SIZE;

		/* the last slot has the next page, which begins at its start */
		if (i == NVME_NG_LIST_PRPS - 1) {
			struct nvme_ng_list *l;

			l = nvme_ng_new_list(dev, NVME_NG_LIST_BYTES, lists);
			if (!l)
				return -ENOMEM;
			*slot = cpu_to_le64(l->dma);
			slot = l->desc;
			i = 0;
		}
		*slot++ = cpu_to_le64(addr);
		i++;
	}
	return 0;
}

/**
 * nvme_ng_describe - fill in the data pointer of a command
 * @buf: the data, mapped
 * @dev: the device
 * @len: bytes that the device moves, if @sgl is false
 * @sgl: describe it as a Scatter Gather List, which carries its length
 * @cmd: the command, in place
 * @lists: the first of the descriptor memory, for nvme_ng_free_lists()
 *
 * Return: 0 or -ENOMEM.
 */
int nvme_ng_describe(struct nvme_ng_buf *buf, struct device *dev, u32 len,
		     bool sgl, struct nvme_command *cmd,
		     struct nvme_ng_list *lists)
{
	BUILD_BUG_ON(sizeof(struct nvme_sgl_desc) != 16);

	if (!sgl)
		return buf->mapped ? nvme_ng_prp(buf, dev, len, cmd, lists) : 0;

	cmd->common.flags |= NVME_CMD_SGL_METABUF;
	if (buf->mapped)
		return nvme_ng_sgl(buf, dev, &cmd->common.dptr.sgl, lists);
	/* no data: say so, PRP 1 would read as an address */
	nvme_ng_sgl_set(&cmd->common.dptr.sgl, 0, 0, NVME_SGL_FMT_DATA_DESC);
	return 0;
}
