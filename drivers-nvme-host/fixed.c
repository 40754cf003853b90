// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-ng: registered buffers of io_uring that stay mapped for DMA.
 *
 * The first command with its data in a registered buffer maps all of the
 * buffer for the controller, as if it were a region, and keeps the mapping
 * with the buffer.  Commands that follow find it there.  io_uring has pinned
 * and accounted for the memory, and lets the mapping go with the buffer, which
 * no command uses then.
 */
#include <linux/bvec.h>
#include <linux/module.h>
#include "region.h"

static void nvme_ng_release_fixed(struct io_uring_buf_user *user)
{
	struct nvme_ng_fixed *f = container_of(user, struct nvme_ng_fixed, user);

	if (f->view)
		nvme_ng_free_view(&f->region, f->view);
	sg_free_table(&f->region.mem.sgt);
	nvme_ng_put_device(f->device);
	kfree(f);
}

/* Fill in the pieces of memory from @sg on, or count them if it is NULL. */
static unsigned int nvme_ng_fixed_pieces(struct scatterlist *sg,
					 const struct bio_vec *bv,
					 unsigned int nr)
{
	phys_addr_t start = 0, end = 0;
	unsigned int i, pieces = 0;

	for (i = 0; i < nr; i++, bv++) {
		phys_addr_t at = page_to_phys(bv->bv_page) + bv->bv_offset;
		u32 n, left = bv->bv_len;

		for (; left; left -= n, at += n) {
			n = min_t(u32, left, NVME_NG_MAX_SEGMENT);
			if (!pieces || at != end ||
			    end - start + n > NVME_NG_MAX_SEGMENT) {
				if (sg && pieces)
					sg = sg_next(sg);
				start = at;
				pieces++;
			}
			end = at + n;
			if (sg)
				sg_set_page(sg, pfn_to_page(PHYS_PFN(start)),
					    end - start, offset_in_page(start));
		}
		if (!(i % 4096))
			cond_resched();
	}
	return pieces;
}

/* Map the buffer of a command, and leave the mapping with it. */
static int nvme_ng_keep_fixed(struct nvme_ng_device *device,
			      struct io_uring_cmd *ioucmd)
{
	struct nvme_ng_fixed *f;
	const struct bio_vec *bv;
	unsigned int nr;
	int ret;

	f = kzalloc_obj(*f, GFP_KERNEL_ACCOUNT);
	if (!f)
		return -ENOMEM;
	f->user.key = device;
	f->user.owner = THIS_MODULE;
	f->user.release = nvme_ng_release_fixed;
	f->device = device;
	kref_get(&device->ref);

	bv = io_uring_cmd_buf_bvecs(ioucmd, &nr);
	ret = sg_alloc_table(&f->region.mem.sgt,
			     nvme_ng_fixed_pieces(NULL, bv, nr),
			     GFP_KERNEL_ACCOUNT);
	if (ret)
		goto out_release;
	nvme_ng_fixed_pieces(f->region.mem.sgt.sgl, bv, nr);
	for (; nr; nr--, bv++)
		f->region.len += bv->bv_len;
	f->view = nvme_ng_new_view(&f->region, device);
	if (IS_ERR(f->view)) {
		ret = PTR_ERR(f->view);
		f->view = NULL;
		/* only what lasts is worth to be kept */
		if (ret == -ENODEV || !nvme_ng_error_lasts(ret))
			goto out_release;
	}
	ret = io_uring_cmd_add_buf_user(ioucmd, &f->user);
	if (!ret)
		return 0;
out_release:
	nvme_ng_release_fixed(&f->user);
	/* the other ring's mapping does as well */
	return ret == -EEXIST ? 0 : ret;
}

/**
 * nvme_ng_map_fixed - describe data in a registered buffer, map that if need be
 * @ns: where the command goes
 * @ioucmd: the io_uring command
 * @addr: of the data in the memory of the program
 * @len: bytes of data, at least 1 and no more than the controller takes
 * @cmd: the command, without metadata
 * @issue_flags: as io_uring gave them
 *
 * Process context, sleeps.
 *
 * Return: 0, or 1 if the command has to be mapped for itself.
 */
int nvme_ng_map_fixed(struct nvme_ns *ns, struct io_uring_cmd *ioucmd,
		      u64 addr, u32 len, struct nvme_command *cmd,
		      unsigned int issue_flags)
{
	struct nvme_ng_open *open = nvme_ng_get_open(ioucmd->file);
	struct nvme_ng_path *path;
	int ret;

	if (!open)
		return 1;
	path = nvme_ng_get_path(open, ns);
	if (IS_ERR(path))
		return 1;
	ret = nvme_ng_use_fixed(path, ioucmd, addr, len, cmd, issue_flags);
	if (ret != -ENOENT)
		return ret;
	if (nvme_ng_keep_fixed(path->device, ioucmd))
		return 1;
	return nvme_ng_use_fixed(path, ioucmd, addr, len, cmd, issue_flags);
}
