// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-ng: completion rings, where programs see the ends of commands that they
 * handed over in arrays.
 *
 * A ring is memory of the program that is pinned and mapped for the kernel for
 * as long as the node is open.
 */
#include <linux/seq_file.h>
#include <linux/vmalloc.h>
#include "region.h"

static void nvme_ng_free_ring(struct nvme_ng_results *r)
{
	vunmap(r->head);
	unpin_user_pages_dirty_lock(r->page, r->nr_pages, true);
	if (r->locked.user)
		nvme_ng_uncharge(&r->locked);
	kvfree(r->page);
	kfree(r);
}

/* Pin the pages at @addr, which begins one. */
static int nvme_ng_pin_ring(struct nvme_ng_results *r, u64 addr,
			    unsigned int pages)
{
	int nr;

	while (r->nr_pages < pages) {
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
		nr = nvme_ng_pin_longterm(addr + (u64)r->nr_pages * PAGE_SIZE,
					  pages - r->nr_pages, true,
					  r->page + r->nr_pages);
		if (nr <= 0)
			return nr ?: -EFAULT;
		r->nr_pages += nr;
	}
	return 0;
}

static struct nvme_ng_results *nvme_ng_new_ring(const struct nvme_ng_ring *u)
{
	size_t len = sizeof(struct nvme_ng_ring_head) +
		(size_t)u->entries * sizeof(struct nvme_ng_ring_entry);
	unsigned int pages = DIV_ROUND_UP(len, PAGE_SIZE);
	struct nvme_ng_results *r;
	int ret;

	if (!access_ok(u64_to_user_ptr(u->addr), len))
		return ERR_PTR(-EFAULT);
	r = kzalloc_obj(*r, GFP_KERNEL_ACCOUNT);
	if (!r)
		return ERR_PTR(-ENOMEM);
	r->page = kvcalloc(pages, sizeof(*r->page), GFP_KERNEL_ACCOUNT);
	ret = r->page ? nvme_ng_charge(&r->locked, pages, 1) : -ENOMEM;
	if (!ret)
		ret = nvme_ng_pin_ring(r, u->addr, pages);
	if (!ret) {
		r->head = vmap(r->page, pages, VM_MAP, PAGE_KERNEL);
		ret = r->head ? 0 : -ENOMEM;
	}
	if (ret) {
		nvme_ng_free_ring(r);
		return ERR_PTR(ret);
	}
	r->entry = (struct nvme_ng_ring_entry *)(r->head + 1);
	r->mask = u->entries - 1;
	return r;
}

/* The ring is in use once this returned its handle; or a negative errno. */
static int nvme_ng_publish_ring(struct nvme_ng_open *open,
				struct nvme_ng_results *r)
{
	struct nvme_ng_results **all;
	int ret = -EMFILE;
	unsigned int i;

	mutex_lock(&open->lock);
	all = open->results;
	if (!all) {
		all = kcalloc(NVME_NG_MAX_RINGS, sizeof(*all),
			      GFP_NOIO | __GFP_ACCOUNT);
		if (!all) {
			ret = -ENOMEM;
			goto out;
		}
		/* pairs with nvme_ng_find_results() */
		smp_store_release(&open->results, all);
	}
	for (i = 0; i < NVME_NG_MAX_RINGS && all[i]; i++)
		;
	if (i < NVME_NG_MAX_RINGS) {
		/* pairs with nvme_ng_find_results() */
		smp_store_release(&all[i], r);
		ret = i + 1;
	}
out:
	mutex_unlock(&open->lock);
	return ret;
}

/**
 * nvme_ng_ioctl_ring - NVME_NG_IOCTL_RING
 * @file: the open node
 * @ns: its namespace, or the usable path of a head
 * @arg: struct nvme_ng_ring of the program
 *
 * Return: 0 or a negative errno, as <linux/nvme_ng.h> says.
 */
int nvme_ng_ioctl_ring(struct file *file, struct nvme_ns *ns, void __user *arg)
{
	struct nvme_ng_ring __user *u = arg;
	struct nvme_ng_results *r;
	struct nvme_ng_path *path;
	struct nvme_ng_open *open;
	struct nvme_ng_ring ring;
	u32 size;
	int ret;

	BUILD_BUG_ON(sizeof(ring) != 32);
	BUILD_BUG_ON(sizeof(struct nvme_ng_ring_head) != 128);
	BUILD_BUG_ON(sizeof(struct nvme_ng_ring_entry) != 32);
	if (get_user(size, (u32 __user *)arg))
		return -EFAULT;
	if (size < sizeof(ring) || size > PAGE_SIZE)
		return -EINVAL;
	ret = copy_struct_from_user(&ring, sizeof(ring), arg, size);
	if (ret)
		return ret == -E2BIG ? -EINVAL : ret;
	if (ring.flags || ring.rsvd || !is_power_of_2(ring.entries) ||
	    ring.entries < 2 || ring.entries > 65536 ||
	    ring.entry_size != sizeof(struct nvme_ng_ring_entry) ||
	    !PAGE_ALIGNED(ring.addr))
		return -EINVAL;
	open = nvme_ng_get_open(file);
	if (!open)
		return -ENOMEM;
	path = nvme_ng_get_path(open, ns);
	if (IS_ERR(path))
		return PTR_ERR(path);
	r = nvme_ng_new_ring(&ring);
	if (IS_ERR(r))
		return PTR_ERR(r);
	ret = nvme_ng_publish_ring(open, r);
	if (ret < 0) {
		nvme_ng_free_ring(r);
		return ret;
	}
	/* who cannot be told the handle has it until the node is closed */
	return put_user(ret, &u->ring);
}

/**
 * nvme_ng_free_results - free the completion rings of a file
 * @open: its file is being closed, no command is in flight
 */
void nvme_ng_free_results(struct nvme_ng_open *open)
{
	unsigned int i;

	for (i = 0; open->results && i < NVME_NG_MAX_RINGS; i++)
		if (open->results[i])
			nvme_ng_free_ring(open->results[i]);
	kfree(open->results);
}

/**
 * nvme_ng_show_results - tell how many completion rings a file has
 * @m: /proc/PID/fdinfo/FD
 * @open: the file
 */
void nvme_ng_show_results(struct seq_file *m, struct nvme_ng_open *open)
{
	unsigned long pages = 0;
	unsigned int i, nr = 0;

	for (i = 1; i <= NVME_NG_MAX_RINGS; i++) {
		struct nvme_ng_results *r = nvme_ng_find_results(open, i);

		if (!r)
			break;
		nr++;
		pages += r->nr_pages;
	}
	seq_printf(m, "nvme-completion-rings:\t%u\n", nr);
	seq_printf(m, "nvme-completion-ring-pinned:\t%lu KiB\n",
		   pages << (PAGE_SHIFT - 10));
}
