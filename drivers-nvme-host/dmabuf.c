// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-ng: regions whose memory is that of a dma-buf.
 *
 * A file has one attachment for each dma-buf, controller and direction, which
 * all its regions share.  It is pinned, so its exporter does not move it, but
 * may take it back at any time.  That is an unmap that the exporter asks for:
 * no command finds the views any more, a new epoch begins, and once the
 * commands of the old one have left, the fence that the exporter was given is
 * signalled and the attachment ends.  The regions keep their handles.
 */
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/dma-resv.h>
#include <linux/slab.h>
#include "region.h"

NVME_NG_IMPORT_DMA_BUF;

/* room for our fence, and for as many as an exporter may have reserved before */
#define NVME_NG_FENCES	8

/**
 * struct nvme_ng_fence - commands in flight while a dma-buf is taken back
 * @base: first, dma_fence_free() frees it
 * @lock: for @base
 */
struct nvme_ng_fence {
	struct dma_fence	base;
	spinlock_t		lock;	/* dma_fence_init() */
};

/**
 * struct nvme_ng_attach - a dma-buf as one controller sees it for one file
 * @dmabuf: the dma-buf, a reference
 * @device: the controller, a reference
 * @open: the file, a reference
 * @read_only: the device must not write
 * @lock: protects @attach, @sgt and @locked; held while a view is made of @sgt
 * @attach: the attachment, NULL if it is not there yet or any more
 * @sgt: the mapping; changes with the reservation locked, too
 * @locked: who is charged for it
 * @users: views, and one while it is @dead; 0: about to be freed
 * @revoked: the exporter has taken it back: no view can be made
 * @views: views, struct nvme_ng_view
 * @on_open: in &nvme_ng_open.attached
 * @on_device: in &nvme_ng_device.attached
 * @epoch: that begins when it is revoked
 * @fence: of the revocation
 * @dead: in &nvme_ng_epoch.dead, after the revocation
 *
 * @users, @revoked and the lists are protected by nvme_ng_attach_lock.
 */
struct nvme_ng_attach {
	struct dma_buf			*dmabuf;
	struct nvme_ng_device		*device;
	struct nvme_ng_open		*open;
	bool				read_only;
	struct mutex			lock;	/* @attach, @sgt, @locked */
	struct dma_buf_attachment	*attach;
	struct sg_table			*sgt;
	struct nvme_ng_locked		locked;
	unsigned int			users;
	bool				revoked;
	struct list_head		views;
	struct list_head		on_open;
	struct list_head		on_device;
	struct nvme_ng_epoch		*epoch;
	struct nvme_ng_fence		*fence;
	struct nvme_ng_dead		dead;
};

/* Taken with the reservation of a dma-buf locked, never the other way. */
static DEFINE_SPINLOCK(nvme_ng_attach_lock);

/**
 * nvme_ng_get_dmabuf - take the memory of a region from a dma-buf
 * @region: the region, new
 * @m: names the dma-buf and the part of it
 *
 * Return: 0; -EBADF; -EINVAL if it is no dma-buf, or shorter; -EACCES if it is
 * not open for what the region is for.
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
	if (!region->read_only && !(dmabuf->file->f_mode & FMODE_WRITE))
		return -EACCES;
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

/* Fences */

static const char *nvme_ng_fence_driver(struct dma_fence *fence)
{
	return "nvme-ng";
}

static const char *nvme_ng_fence_timeline(struct dma_fence *fence)
{
	return "revoked";
}

static const struct dma_fence_ops nvme_ng_fence_ops = {
	.get_driver_name	= nvme_ng_fence_driver,
	.get_timeline_name	= nvme_ng_fence_timeline,
};

/*
 * The exporter waits for the fence, or is made to wait.  The reservation is
 * locked, and nothing that signals the fence needs it.
 */
static void nvme_ng_add_fence(struct nvme_ng_attach *a,
			      struct nvme_ng_epoch *old)
{
	struct dma_resv *resv = a->dmabuf->resv;
	struct dma_fence *fence = &a->fence->base;
	bool added;

	dma_fence_init(fence, &nvme_ng_fence_ops, &a->fence->lock,
		       dma_fence_context_alloc(1), 1);
	added = !dma_resv_reserve_fences(resv, NVME_NG_FENCES);
	if (added)
		dma_resv_add_fence(resv, fence, DMA_RESV_USAGE_BOOKKEEP);
	dma_fence_get(fence);
	nvme_ng_leave(old);
	if (!added)
		dma_fence_wait(fence, false);
	dma_fence_put(fence);
}

/* No command that found a view is in flight; any context. */
static void nvme_ng_revoke_ended(struct nvme_ng_dead *dead)
{
	struct nvme_ng_attach *a = container_of(dead, struct nvme_ng_attach,
						dead);

	dma_fence_signal(&a->fence->base);
}

/**
 * nvme_ng_wait_dmabuf - wait until the memory is what the exporter says
 * @region: a region of a dma-buf, mapped
 *
 * Return: 0 or -ERESTARTSYS.
 */
int nvme_ng_wait_dmabuf(struct nvme_ng_region *region)
{
	long ret;

	ret = dma_resv_wait_timeout(region->dmabuf->resv, DMA_RESV_USAGE_KERNEL,
				    true, MAX_SCHEDULE_TIMEOUT);
	return min(ret, 0L);
}

/**
 * nvme_ng_dmabuf_is_ready - would nvme_ng_wait_dmabuf() not wait?
 * @region: as there
 *
 * Return: true or false.
 */
bool nvme_ng_dmabuf_is_ready(struct nvme_ng_region *region)
{
	return dma_resv_test_signaled(region->dmabuf->resv,
				      DMA_RESV_USAGE_KERNEL);
}

/* Attachments */

static enum dma_data_direction nvme_ng_attach_dir(const struct nvme_ng_attach *a)
{
	return a->read_only ? DMA_TO_DEVICE : DMA_BIDIRECTIONAL;
}

/*
 * The exporter takes its memory back, with the reservation locked.  What is not
 * mapped yet will not be, or is mapped as it is then.
 */
static void nvme_ng_revoke(struct dma_buf_attachment *attach)
{
	struct nvme_ng_attach *a = attach->importer_priv;
	struct nvme_ng_epoch *old = NULL;
	struct nvme_ng_view *view;

	dma_resv_assert_held(attach->dmabuf->resv);
	spin_lock(&nvme_ng_attach_lock);
	if (a->sgt && !a->revoked) {
		a->revoked = true;
		list_for_each_entry(view, &a->views, on_attach)
			WRITE_ONCE(view->match, NULL);
		/* who ends it otherwise waits for the reservation, if at all */
		if (a->users)
			old = nvme_ng_retire(a->open, a->epoch, &a->dead);
		if (old) {
			a->epoch = NULL;
			a->users++;
		}
	}
	spin_unlock(&nvme_ng_attach_lock);
	if (old)
		nvme_ng_add_fence(a, old);
}

static const struct dma_buf_attach_ops nvme_ng_attach_ops = {
	.allow_peer2peer	= true,
	.NVME_NG_MOVE_NOTIFY	= nvme_ng_revoke,
};

/* &nvme_ng_attach.lock is held, and the controller stays. */
static int nvme_ng_map_attach(struct nvme_ng_attach *a)
{
	struct device *dev = a->device->ctrl->dev;
	struct dma_buf *dmabuf = a->dmabuf;
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;
	int ret;

	ret = nvme_ng_charge(&a->locked, DIV_ROUND_UP(dmabuf->size, PAGE_SIZE),
			     1);
	if (ret)
		return ret;
	attach = dma_buf_dynamic_attach(dmabuf, dev,
					nvme_ng_importer(dmabuf, a->read_only,
							 &nvme_ng_attach_ops),
					a);
	if (IS_ERR(attach)) {
		ret = PTR_ERR(attach);
		goto out_uncharge;
	}
	dma_resv_lock(dmabuf->resv, NULL);
	if (attach->importer_ops) {
		ret = dma_buf_pin(attach);
		if (ret)
			goto out_unlock;
	}
	sgt = dma_buf_map_attachment(attach, nvme_ng_attach_dir(a));
	if (IS_ERR_OR_NULL(sgt)) {
		ret = sgt ? PTR_ERR(sgt) : -ENOMEM;
		goto out_unpin;
	}
	if (nvme_ng_is_copied(dev, sgt)) {
		ret = -EOPNOTSUPP;
		goto out_unmap;
	}
	a->sgt = sgt;
	dma_resv_unlock(dmabuf->resv);
	a->attach = attach;
	return 0;

out_unmap:
	dma_buf_unmap_attachment(attach, sgt, nvme_ng_attach_dir(a));
out_unpin:
	if (attach->importer_ops)
		dma_buf_unpin(attach);
out_unlock:
	dma_resv_unlock(dmabuf->resv);
	dma_buf_detach(dmabuf, attach);
out_uncharge:
	nvme_ng_uncharge(&a->locked);
	return ret;
}

/*
 * End the mapping, unless it has ended.  No command uses it, and the controller
 * stays.
 */
static void nvme_ng_unmap_attach(struct nvme_ng_attach *a)
{
	struct dma_buf_attachment *attach;
	struct dma_buf *dmabuf = a->dmabuf;
	struct dma_fence *done;

	mutex_lock(&a->lock);
	attach = a->attach;
	if (!attach)
		goto out_unlock;
	dma_resv_lock(dmabuf->resv, NULL);
	dma_buf_unmap_attachment(attach, a->sgt, nvme_ng_attach_dir(a));
	if (attach->importer_ops)
		dma_buf_unpin(attach);
	a->sgt = NULL;
	/* what the dma-buf keeps must not need this module */
	if (a->fence->base.context) {
		done = dma_fence_get_stub();
		dma_resv_replace_fences(dmabuf->resv, a->fence->base.context,
					done, DMA_RESV_USAGE_BOOKKEEP);
		dma_fence_put(done);
	}
	dma_resv_unlock(dmabuf->resv);
	dma_buf_detach(dmabuf, attach);
	a->attach = NULL;
	nvme_ng_uncharge(&a->locked);
out_unlock:
	mutex_unlock(&a->lock);
}

static void nvme_ng_free_attach(struct nvme_ng_attach *a)
{
	if (a->fence && a->fence->base.context)
		dma_fence_put(&a->fence->base);
	else
		kfree(a->fence);
	kfree(a->epoch);
	dma_buf_put(a->dmabuf);
	nvme_ng_put_device(a->device);
	nvme_ng_put_open(a->open);
	kfree(a);
}

/* One user less; &nvme_ng_device.mapping is held. */
static void nvme_ng_put_attach(struct nvme_ng_attach *a)
{
	bool last;

	spin_lock(&nvme_ng_attach_lock);
	last = !--a->users;
	if (last)
		list_del(&a->on_open);
	spin_unlock(&nvme_ng_attach_lock);
	if (!last)
		return;
	nvme_ng_unmap_attach(a);
	spin_lock(&nvme_ng_attach_lock);
	list_del(&a->on_device);
	spin_unlock(&nvme_ng_attach_lock);
	nvme_ng_free_attach(a);
}

/* The exporter need not wait any longer. */
static void nvme_ng_revoke_free(struct nvme_ng_dead *dead)
{
	struct nvme_ng_attach *a = container_of(dead, struct nvme_ng_attach,
						dead);
	struct nvme_ng_device *device = a->device;

	kref_get(&device->ref);
	down_read(&device->mapping);
	nvme_ng_unmap_attach(a);
	nvme_ng_put_attach(a);
	up_read(&device->mapping);
	nvme_ng_put_device(device);
}

static struct nvme_ng_attach *nvme_ng_new_attach(struct nvme_ng_region *region,
						 struct nvme_ng_device *device)
{
	struct nvme_ng_attach *a;

	a = kzalloc_obj(*a, GFP_KERNEL_ACCOUNT);
	if (!a)
		return NULL;
	mutex_init(&a->lock);
	INIT_LIST_HEAD(&a->views);
	a->users = 1;
	a->read_only = region->read_only;
	a->dead.ended = nvme_ng_revoke_ended;
	a->dead.free = nvme_ng_revoke_free;
	a->dmabuf = region->dmabuf;
	get_dma_buf(a->dmabuf);
	a->device = device;
	kref_get(&device->ref);
	a->open = region->open;
	kref_get(&a->open->ref);
	a->epoch = nvme_ng_new_epoch();
	a->fence = kzalloc_obj(*a->fence, GFP_KERNEL_ACCOUNT);
	if (a->epoch && a->fence) {
		spin_lock_init(&a->fence->lock);
		return a;
	}
	nvme_ng_free_attach(a);
	return NULL;
}

/* One user more of what is there; of @new if that is not NULL and none is. */
static struct nvme_ng_attach *nvme_ng_find_attach(struct nvme_ng_region *region,
						  struct nvme_ng_device *device,
						  struct nvme_ng_attach *new)
{
	struct nvme_ng_open *open = region->open;
	struct nvme_ng_attach *a;

	spin_lock(&nvme_ng_attach_lock);
	list_for_each_entry(a, &open->attached, on_open) {
		if (a->dmabuf == region->dmabuf && a->device == device &&
		    a->read_only == region->read_only && !a->revoked) {
			a->users++;
			goto out_unlock;
		}
	}
	a = new;
	if (a) {
		list_add(&a->on_open, &open->attached);
		list_add(&a->on_device, &device->attached);
	}
out_unlock:
	spin_unlock(&nvme_ng_attach_lock);
	return a;
}

/**
 * nvme_ng_map_dmabuf - map the dma-buf of a region
 * @view: the view to be
 * @region: the region
 *
 * Process context, sleeps; &nvme_ng_device.mapping is held, and the controller
 * not gone.
 *
 * Return: 0: &nvme_ng_view.sgt is there until nvme_ng_dmabuf_is_mapped() is
 * called; -EOPNOTSUPP if the device cannot reach the memory without copies;
 * -ENOMEM, also if the user may not lock that much; -ENODEV if the exporter
 * has just taken it back; or what the exporter fails with.
 */
int nvme_ng_map_dmabuf(struct nvme_ng_view *view, struct nvme_ng_region *region)
{
	struct nvme_ng_attach *a, *new;
	int ret = 0;

	a = nvme_ng_find_attach(region, view->device, NULL);
	if (!a) {
		new = nvme_ng_new_attach(region, view->device);
		if (!new)
			return -ENOMEM;
		a = nvme_ng_find_attach(region, view->device, new);
		if (a != new)
			nvme_ng_free_attach(new);
	}
	mutex_lock(&a->lock);
	if (!a->attach)
		ret = a->revoked ? -ENODEV : nvme_ng_map_attach(a);
	spin_lock(&nvme_ng_attach_lock);
	if (!ret && a->revoked)
		ret = -ENODEV;
	if (!ret)
		list_add(&view->on_attach, &a->views);
	spin_unlock(&nvme_ng_attach_lock);
	if (ret) {
		mutex_unlock(&a->lock);
		nvme_ng_put_attach(a);
		return ret;
	}
	view->attach = a;
	view->sgt = a->sgt;
	return 0;
}

/**
 * nvme_ng_dmabuf_is_mapped - the last step of nvme_ng_map_dmabuf()
 * @view: has what is in its table
 */
void nvme_ng_dmabuf_is_mapped(struct nvme_ng_view *view)
{
	view->sgt = NULL;
	mutex_unlock(&view->attach->lock);
}

/**
 * nvme_ng_unmap_dmabuf - end what nvme_ng_map_dmabuf() began
 * @view: no command uses it
 *
 * Process context, sleeps; &nvme_ng_device.mapping is held.
 */
void nvme_ng_unmap_dmabuf(struct nvme_ng_view *view)
{
	struct nvme_ng_attach *a = view->attach;

	spin_lock(&nvme_ng_attach_lock);
	list_del(&view->on_attach);
	spin_unlock(&nvme_ng_attach_lock);
	view->attach = NULL;
	nvme_ng_put_attach(a);
}

/**
 * nvme_ng_remove_dmabufs - end all that is mapped of dma-bufs
 * @device: its controller is going; &nvme_ng_device.mapping is held for writing
 */
void nvme_ng_remove_dmabufs(struct nvme_ng_device *device)
{
	struct nvme_ng_attach *a;

	/* those that begin or end an attachment hold @mapping, too */
	list_for_each_entry(a, &device->attached, on_device)
		nvme_ng_unmap_attach(a);
}
