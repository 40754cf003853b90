// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-ng: regions whose memory is that of a dma-buf.
 */
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include "region.h"

NVME_NG_IMPORT_DMA_BUF;

/**
 * nvme_ng_get_dmabuf - take the memory of a region from a dma-buf
 * @region: the region, new
 * @m: names the dma-buf and the part of it
 *
 * Return: 0 or -EBADF, -EINVAL.
 */
int nvme_ng_get_dmabuf(struct nvme_ng_region *region,
		       const struct nvme_ng_map *m)
{
	struct dma_buf *dmabuf = dma_buf_get(m->dmabuf_fd);

	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	region->dmabuf = dmabuf;
	region->offset = m->addr;
	if (m->len > dmabuf->size || m->addr > dmabuf->size - m->len)
		return -EINVAL;
	return 0;
}

/**
 * nvme_ng_put_dmabuf - let go of what nvme_ng_get_dmabuf() took
 * @region: the region, without views
 */
void nvme_ng_put_dmabuf(struct nvme_ng_region *region)
{
	dma_buf_put(region->dmabuf);
}

/* The memory is pinned where it is: nothing to be told. */
static void nvme_ng_move_notify(struct dma_buf_attachment *attach)
{
}

static const struct dma_buf_attach_ops nvme_ng_attach_ops = {
	.allow_peer2peer	= true,
	.NVME_NG_MOVE_NOTIFY	= nvme_ng_move_notify,
};

/**
 * nvme_ng_map_dmabuf - map the dma-buf of a region
 * @view: the view to be
 * @region: the region
 * @dev: the device of the view
 *
 * Process context, sleeps.
 *
 * Return: 0, -EOPNOTSUPP if the device cannot reach the memory without copies,
 * or what the exporter fails with.
 */
int nvme_ng_map_dmabuf(struct nvme_ng_view *view, struct nvme_ng_region *region,
		       struct device *dev)
{
	struct dma_buf *dmabuf = region->dmabuf;
	struct dma_buf_attachment *attach;
	int ret;

	attach = dma_buf_dynamic_attach(dmabuf, dev, &nvme_ng_attach_ops, view);
	if (IS_ERR(attach))
		return PTR_ERR(attach);
	dma_resv_lock(dmabuf->resv, NULL);
	ret = dma_buf_pin(attach);
	if (ret)
		goto out_unlock;
	view->sgt = dma_buf_map_attachment(attach, nvme_ng_view_dir(view));
	if (IS_ERR_OR_NULL(view->sgt)) {
		ret = view->sgt ? PTR_ERR(view->sgt) : -ENOMEM;
		goto out_unpin;
	}
	if (nvme_ng_is_copied(dev, view->sgt)) {
		ret = -EOPNOTSUPP;
		goto out_unmap;
	}
	dma_resv_unlock(dmabuf->resv);
	view->attach = attach;
	return 0;

out_unmap:
	dma_buf_unmap_attachment(attach, view->sgt, nvme_ng_view_dir(view));
out_unpin:
	view->sgt = NULL;
	dma_buf_unpin(attach);
out_unlock:
	dma_resv_unlock(dmabuf->resv);
	dma_buf_detach(dmabuf, attach);
	return ret;
}

/**
 * nvme_ng_unmap_dmabuf - end the mapping of nvme_ng_map_dmabuf()
 * @view: no command uses it
 */
void nvme_ng_unmap_dmabuf(struct nvme_ng_view *view)
{
	struct dma_buf *dmabuf = view->attach->dmabuf;

	dma_resv_lock(dmabuf->resv, NULL);
	dma_buf_unmap_attachment(view->attach, view->sgt,
				 nvme_ng_view_dir(view));
	dma_buf_unpin(view->attach);
	dma_resv_unlock(dmabuf->resv);
	dma_buf_detach(dmabuf, view->attach);
	view->attach = NULL;
	view->sgt = NULL;
}
