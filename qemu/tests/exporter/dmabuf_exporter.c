// SPDX-License-Identifier: GPL-2.0
/*
 * An exporter of dma-bufs for tests: /dev/dmabuf_exporter, see
 * selftests/nvme/dmabuf_exporter.h.
 */
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/wait.h>
#include "dmabuf_exporter.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)
#define dma_buf_invalidate_mappings	dma_buf_move_notify
MODULE_IMPORT_NS(DMA_BUF);
#else
MODULE_IMPORT_NS("DMA_BUF");
#endif

#define MOST_PAGES	1024
#define MADE_UP		BIT_ULL(36)
#define PATIENCE	(60 * HZ)

/**
 * struct exporter - a dma-buf and who exports it
 * @ref: held by both
 * @flags: EXPORTER_* bits
 * @nr: elements of @page, none where the pieces are made up
 * @page: memory
 * @dmabuf: the dma-buf, no reference
 * @size: bytes
 * @lock: protects @state, @revoked and @move
 * @state: for EXPORTER_STATE
 * @revoked: not to be mapped
 * @move: signalled by EXPORTER_SETTLE
 * @wait: for @state.mapped to become 0
 */
struct exporter {
	struct kref		ref;
	u32			flags;
	unsigned int		nr;
	struct page		**page;
	struct dma_buf		*dmabuf;
	u64			size;
	spinlock_t		lock;
	struct exporter_state	state;
	bool			revoked;
	struct dma_fence	*move;
	wait_queue_head_t	wait;
};

struct move {
	struct dma_fence	fence;
	spinlock_t		lock;
};

static const char *move_name(struct dma_fence *fence)
{
	return KBUILD_MODNAME;
}

static const struct dma_fence_ops move_ops = {
	.get_driver_name	= move_name,
	.get_timeline_name	= move_name,
};

static void exporter_free(struct kref *ref)
{
	struct exporter *e = container_of(ref, struct exporter, ref);
	unsigned int i;

	for (i = 0; i < e->nr; i++)
		__free_page(e->page[i]);
	kfree(e->page);
	kfree(e);
}

static void exporter_count(struct exporter *e, u32 *count, int change)
{
	spin_lock(&e->lock);
	*count += change;
	spin_unlock(&e->lock);
	wake_up_all(&e->wait);
}

static int exporter_attach(struct dma_buf *dmabuf,
			   struct dma_buf_attachment *attach)
{
	struct exporter *e = dmabuf->priv;

	exporter_count(e, &e->state.attached, 1);
	return 0;
}

static void exporter_detach(struct dma_buf *dmabuf,
			    struct dma_buf_attachment *attach)
{
	struct exporter *e = dmabuf->priv;

	exporter_count(e, &e->state.attached, -1);
}

static int exporter_begin_move(struct exporter *e)
{
	struct move *move = kzalloc(sizeof(*move), GFP_KERNEL);
	int ret;

	if (!move)
		return -ENOMEM;
	ret = dma_resv_reserve_fences(e->dmabuf->resv, 1);
	if (ret) {
		kfree(move);
		return ret;
	}
	spin_lock_init(&move->lock);
	dma_fence_init(&move->fence, &move_ops, &move->lock,
		       dma_fence_context_alloc(1), 1);
	dma_resv_add_fence(e->dmabuf->resv, &move->fence, DMA_RESV_USAGE_KERNEL);
	e->move = &move->fence;
	return 0;
}

static int exporter_pin(struct dma_buf_attachment *attach)
{
	struct exporter *e = attach->dmabuf->priv;
	int ret = 0;

	if (e->flags & EXPORTER_MOVES && !e->move)
		ret = exporter_begin_move(e);
	if (!ret)
		exporter_count(e, &e->state.pinned, 1);
	return ret;
}

static void exporter_unpin(struct dma_buf_attachment *attach)
{
	struct exporter *e = attach->dmabuf->priv;

	exporter_count(e, &e->state.pinned, -1);
}

/* Addresses that nothing is at. */
static int exporter_make_up(struct exporter *e, struct sg_table *sgt)
{
	u64 most = e->flags & EXPORTER_LONG ? UINT_MAX : 6144, left = e->size;
	u64 gap = e->flags & EXPORTER_LONG ? 0 : PAGE_SIZE;
	dma_addr_t at = MADE_UP;
	struct scatterlist *sg;
	unsigned int i;
	int ret;

	ret = sg_alloc_table(sgt, DIV_ROUND_UP(left, most), GFP_KERNEL);
	if (ret)
		return ret;
	for_each_sg(sgt->sgl, sg, sgt->orig_nents, i) {
		sg_dma_address(sg) = at;
		sg_dma_len(sg) = min(left, most);
		left -= sg_dma_len(sg);
		at += sg_dma_len(sg) + gap;
	}
	return 0;
}

static struct sg_table *exporter_map(struct dma_buf_attachment *attach,
				     enum dma_data_direction dir)
{
	struct exporter *e = attach->dmabuf->priv;
	struct sg_table *sgt;
	int ret = -ENODEV;

	sgt = kzalloc(sizeof(*sgt), GFP_KERNEL);
	if (!sgt)
		return ERR_PTR(-ENOMEM);
	if (e->revoked)
		goto out_free;
	if (!e->nr) {
		ret = exporter_make_up(e, sgt);
		if (ret)
			goto out_free;
	} else {
		ret = sg_alloc_table_from_pages(sgt, e->page, e->nr, 0, e->size,
						GFP_KERNEL);
		if (ret)
			goto out_free;
		ret = dma_map_sgtable(attach->dev, sgt, dir, 0);
		if (ret)
			goto out_free_table;
	}
	exporter_count(e, &e->state.mapped, 1);
	if (dir != DMA_TO_DEVICE)
		exporter_count(e, &e->state.writable, 1);
	return sgt;

out_free_table:
	sg_free_table(sgt);
out_free:
	kfree(sgt);
	return ERR_PTR(ret);
}

static void exporter_unmap(struct dma_buf_attachment *attach,
			   struct sg_table *sgt, enum dma_data_direction dir)
{
	struct exporter *e = attach->dmabuf->priv;

	if (e->nr)
		dma_unmap_sgtable(attach->dev, sgt, dir, 0);
	sg_free_table(sgt);
	kfree(sgt);
	if (dir != DMA_TO_DEVICE)
		exporter_count(e, &e->state.writable, -1);
	exporter_count(e, &e->state.mapped, -1);
}

static int exporter_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct exporter *e = dmabuf->priv;

	return e->nr ? vm_map_pages(vma, e->page, e->nr) : -ENODEV;
}

static void exporter_release(struct dma_buf *dmabuf)
{
	struct exporter *e = dmabuf->priv;

	if (e->move) {
		dma_fence_signal(e->move);
		dma_fence_put(e->move);
	}
	e->dmabuf = NULL;
	kref_put(&e->ref, exporter_free);
}

static const struct dma_buf_ops exporter_static_ops = {
	.attach		= exporter_attach,
	.detach		= exporter_detach,
	.map_dma_buf	= exporter_map,
	.unmap_dma_buf	= exporter_unmap,
	.mmap		= exporter_mmap,
	.release	= exporter_release,
};

static const struct dma_buf_ops exporter_pin_ops = {
	.attach		= exporter_attach,
	.detach		= exporter_detach,
	.pin		= exporter_pin,
	.unpin		= exporter_unpin,
	.map_dma_buf	= exporter_map,
	.unmap_dma_buf	= exporter_unmap,
	.mmap		= exporter_mmap,
	.release	= exporter_release,
};

static void exporter_fill(struct exporter *e, u8 byte)
{
	unsigned int i;

	for (i = 0; i < e->nr; i++)
		memset(page_address(e->page[i]), byte, PAGE_SIZE);
}

static int exporter_alloc(struct exporter *e)
{
	unsigned int nr = e->size / PAGE_SIZE;

	if (e->flags & (EXPORTER_LONG | EXPORTER_ODD))
		return 0;
	if (nr > MOST_PAGES)
		return -EINVAL;
	e->page = kcalloc(nr, sizeof(*e->page), GFP_KERNEL);
	if (!e->page)
		return -ENOMEM;
	for (; e->nr < nr; e->nr++) {
		e->page[e->nr] = alloc_page(GFP_KERNEL);
		if (!e->page[e->nr])
			return -ENOMEM;
	}
	exporter_fill(e, 0x11);
	return 0;
}

static int exporter_make(struct exporter *e, void __user *arg)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct exporter_make make;
	int ret;

	if (copy_from_user(&make, arg, sizeof(make)))
		return -EFAULT;
	if (e->size || !make.size || make.size % PAGE_SIZE)
		return -EINVAL;
	e->flags = make.flags;
	e->size = make.size;
	ret = exporter_alloc(e);
	if (ret)
		return ret;
	info.ops = e->flags & EXPORTER_PINS ? &exporter_pin_ops :
					      &exporter_static_ops;
	info.size = e->size;
	info.flags = make.mode;
	info.priv = e;
	kref_get(&e->ref);
	e->dmabuf = dma_buf_export(&info);
	if (IS_ERR(e->dmabuf)) {
		ret = PTR_ERR(e->dmabuf);
		e->dmabuf = NULL;
		kref_put(&e->ref, exporter_free);
		return ret;
	}
	ret = dma_buf_fd(e->dmabuf, O_CLOEXEC);
	if (ret < 0)
		dma_buf_put(e->dmabuf);
	return ret;
}

static int exporter_settle(struct exporter *e)
{
	if (!e->move)
		return -EINVAL;
	exporter_fill(e, 0xee);
	dma_fence_signal(e->move);
	return 0;
}

static int exporter_revoke(struct exporter *e)
{
	struct dma_resv *resv = e->dmabuf->resv;
	long left;

	dma_resv_lock(resv, NULL);
	e->revoked = true;
	dma_buf_invalidate_mappings(e->dmabuf);
	left = dma_resv_wait_timeout(resv, DMA_RESV_USAGE_BOOKKEEP, false,
				     PATIENCE);
	dma_resv_unlock(resv);
	if (left > 0)
		left = wait_event_timeout(e->wait, !READ_ONCE(e->state.mapped),
					  PATIENCE);
	return left > 0 ? 0 : -ETIMEDOUT;
}

/* The caller has the dma-buf open. */
static long exporter_ioctl(struct file *file, unsigned int cmd,
			   unsigned long arg)
{
	struct exporter *e = file->private_data;
	struct exporter_state state;

	if (cmd == EXPORTER_MAKE)
		return exporter_make(e, (void __user *)arg);
	if (cmd == EXPORTER_STATE) {
		spin_lock(&e->lock);
		state = e->state;
		spin_unlock(&e->lock);
		return copy_to_user((void __user *)arg, &state, sizeof(state)) ?
			-EFAULT : 0;
	}
	if (!e->dmabuf)
		return -EINVAL;
	switch (cmd) {
	case EXPORTER_SETTLE:
		return exporter_settle(e);
	case EXPORTER_REVOKE:
		return exporter_revoke(e);
	case EXPORTER_RESTORE:
		dma_resv_lock(e->dmabuf->resv, NULL);
		e->revoked = false;
		dma_resv_unlock(e->dmabuf->resv);
		return 0;
	default:
		return -ENOTTY;
	}
}

static int exporter_open(struct inode *inode, struct file *file)
{
	struct exporter *e = kzalloc(sizeof(*e), GFP_KERNEL);

	if (!e)
		return -ENOMEM;
	kref_init(&e->ref);
	spin_lock_init(&e->lock);
	init_waitqueue_head(&e->wait);
	file->private_data = e;
	return 0;
}

static int exporter_close(struct inode *inode, struct file *file)
{
	struct exporter *e = file->private_data;

	kref_put(&e->ref, exporter_free);
	return 0;
}

static const struct file_operations exporter_fops = {
	.owner		= THIS_MODULE,
	.open		= exporter_open,
	.release	= exporter_close,
	.unlocked_ioctl	= exporter_ioctl,
};

static struct miscdevice exporter_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= KBUILD_MODNAME,
	.fops	= &exporter_fops,
	.mode	= 0666,
};
module_misc_device(exporter_device);

MODULE_DESCRIPTION("Exporter of dma-bufs for tests");
MODULE_LICENSE("GPL");
