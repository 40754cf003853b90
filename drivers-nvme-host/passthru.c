// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-ng: commands of programs, by io_uring or ioctl, through /dev/ngXnY and
 * /dev/nvmeX.
 *
 * A command of a PCIe controller goes from the program's memory to the
 * submission queue without a bio: the request carries no data as far as the
 * block layer can tell, and its data pointer is filled in here.  What belongs
 * to the device (DMA mapping, descriptors) is released when the request ends,
 * what belongs to the program (pages) in its task afterwards.
 *
 * Other transports need the block layer; for them access is checked here and
 * the rest is left to the stock code.
 */
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/nvme_ioctl.h>
#include <linux/ptrace.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include "mapping.h"

/* what needs no allocation: 128 KiB in pages, segments, pieces of metadata */
#define NVME_NG_FEW_DATA	32
#define NVME_NG_FEW_IOV		32
#define NVME_NG_FEW_META	2

/**
 * struct nvme_ng_cmd - a command in flight
 * @dev: the device that the buffers are mapped for
 * @data: data buffer
 * @meta: separate metadata buffer
 * @lists: descriptor memory, the first of it
 * @epoch: keeps the regions that the buffers are in, or NULL
 * @seg: parts of regions while the command is made, or NULL
 * @nr_seg: number of them
 * @result: dwords 0 and 1 of the completion
 * @status: NVMe status, or a negative errno
 * @few_data: for @data
 * @few_meta: for @meta
 * @few_iov: the segments of a vectored command while it is made
 */
struct nvme_ng_cmd {
	struct device		*dev;
	struct nvme_ng_buf	data;
	struct nvme_ng_buf	meta;
	struct nvme_ng_list	lists;
	struct nvme_ng_epoch	*epoch;
	struct nvme_ng_segment	*seg;
	unsigned int		nr_seg;
	u64			result;
	int			status;
	struct scatterlist	few_data[NVME_NG_FEW_DATA];
	struct scatterlist	few_meta[NVME_NG_FEW_META];
	struct iovec		few_iov[NVME_NG_FEW_IOV];
};

static struct kmem_cache *nvme_ng_cmds;

/* Not cleared for each command; there is no descriptor memory in a free one. */
static void nvme_ng_cmd_construct(void *nc)
{
	memset(nc, 0, sizeof(struct nvme_ng_cmd));
}

/**
 * nvme_ng_init - allocate what all controllers share
 *
 * When the module is loaded.  Return: 0 or -ENOMEM.
 */
int nvme_ng_init(void)
{
	int ret;

	nvme_ng_cmds = kmem_cache_create_usercopy("nvme_ng_cmd",
						  sizeof(struct nvme_ng_cmd), 0,
						  SLAB_ACCOUNT,
						  offsetof(struct nvme_ng_cmd, few_iov),
						  sizeof_field(struct nvme_ng_cmd, few_iov),
						  nvme_ng_cmd_construct);
	if (!nvme_ng_cmds)
		return -ENOMEM;
	ret = nvme_ng_init_regions();
	if (ret)
		kmem_cache_destroy(nvme_ng_cmds);
	return ret;
}

/**
 * nvme_ng_exit - free it again
 *
 * When the module is removed, or failed to load after nvme_ng_init().
 */
void nvme_ng_exit(void)
{
	nvme_ng_exit_regions();
	kmem_cache_destroy(nvme_ng_cmds);
}

/**
 * struct nvme_ng_args - a command as the program gave it
 * @addr: data, or an array of struct iovec; NULL outside of a registered
 *	buffer stands for no data
 * @data_len: bytes at @addr, or elements of the array
 * @metadata: separate metadata
 * @metadata_len: bytes at @metadata
 * @timeout_ms: 0 for the default
 * @vec: @addr is an array
 * @compat: of a 32-bit program
 * @regions: data and metadata are in regions, as this entry says, or NULL
 * @open: the open node, if @regions
 * @path: where the command goes, if @regions
 * @fixed: in the registered buffer of this io_uring command, or NULL
 * @bv: where that buffer has the data, if it is known already
 * @bv_offset: of the data in @bv
 * @issue_flags: as io_uring gave them
 */
struct nvme_ng_args {
	u64			addr;
	u32			data_len;
	u64			metadata;
	u32			metadata_len;
	u32			timeout_ms;
	bool			vec;
	bool			compat;
	const struct nvme_ng_uring_cmd *regions;
	struct nvme_ng_open	*open;
	struct nvme_ng_path	*path;
	struct io_uring_cmd	*fixed;
	const struct bio_vec	*bv;
	size_t			bv_offset;
	unsigned int		issue_flags;
};

static void __user *nvme_ng_ptr(const struct nvme_ng_args *args, u64 val)
{
	if (args->compat)
		val = (compat_uptr_t)val;
	return u64_to_user_ptr(val);
}

/* Everything of the device; before the request ends. */
static void nvme_ng_cmd_end(struct nvme_ng_cmd *nc)
{
	nvme_ng_buf_unmap(&nc->data, nc->dev);
	if (nc->meta.len)
		nvme_ng_buf_unmap(&nc->meta, nc->dev);
	nvme_ng_free_lists(&nc->lists);
	if (nc->epoch)
		nvme_ng_leave(nc->epoch);
	nc->epoch = NULL;
}

/* Everything of the program; in process context. */
static void nvme_ng_cmd_free(struct nvme_ng_cmd *nc)
{
	bool copy = !nc->status;

	if (nvme_ng_buf_release(&nc->data, copy))
		nc->status = -EFAULT;
	if (nc->meta.len && nvme_ng_buf_release(&nc->meta, copy))
		nc->status = -EFAULT;
}

/*
 * import_iovec() asks in_compat_syscall(), which lies on x86 in task work that
 * an interrupt lets run, as that of linked commands is.
 */
static int nvme_ng_copy_iov(const struct nvme_ng_args *args, struct iovec *iov)
{
	struct compat_iovec __user *compat = nvme_ng_ptr(args, args->addr);
	struct compat_iovec v;
	u32 i;

	if (!args->compat)
		return copy_from_user(iov, nvme_ng_ptr(args, args->addr),
				      args->data_len * sizeof(*iov)) ?
			-EFAULT : 0;
	for (i = 0; i < args->data_len; i++) {
		if (copy_from_user(&v, &compat[i], sizeof(v)))
			return -EFAULT;
		iov[i].iov_base = compat_ptr(v.iov_base);
		iov[i].iov_len = v.iov_len;
	}
	return 0;
}

static int nvme_ng_import_vec(struct nvme_ng_cmd *nc,
			      const struct nvme_ng_args *args, u64 max)
{
	struct iovec *iov = nc->few_iov;
	int ret;

	if (args->data_len > UIO_MAXIOV)
		return -EINVAL;
	if (args->data_len > NVME_NG_FEW_IOV) {
		iov = kmalloc_array(args->data_len, sizeof(*iov), GFP_KERNEL);
		if (!iov)
			return -ENOMEM;
	}
	ret = nvme_ng_copy_iov(args, iov);
	if (!ret)
		ret = nvme_ng_buf_import(&nc->data, iov, args->data_len, max,
					 args->fixed, args->issue_flags);
	if (iov != nc->few_iov)
		kfree(iov);
	return ret;
}

static int nvme_ng_import_data(struct nvme_ng_cmd *nc,
			       const struct nvme_ng_args *args, u64 max)
{
	struct iovec iov;

	if (!args->data_len || (!args->addr && !args->fixed))
		return 0;
	if (args->vec)
		return nvme_ng_import_vec(nc, args, max);
	iov.iov_base = nvme_ng_ptr(args, args->addr);
	iov.iov_len = args->data_len;
	if (args->bv)
		return nvme_ng_buf_import_found(&nc->data, &iov, args->bv,
						args->bv_offset);
	return nvme_ng_buf_import(&nc->data, &iov, 1, max, args->fixed,
				  args->issue_flags);
}

/* Separate metadata, from the registered buffer where it lies in there. */
static int nvme_ng_import_meta(struct nvme_ng_cmd *nc, struct nvme_ns *ns,
			       const struct nvme_ng_args *args)
{
	struct iovec iov = {
		.iov_base	= nvme_ng_ptr(args, args->metadata),
		.iov_len	= args->metadata_len,
	};
	u32 max;
	int ret;

	if (!args->metadata || !args->metadata_len)
		return 0;
	if (!ns)
		return -EINVAL;
	max = nvme_ng_metadata_bound(ns);
	if (args->fixed) {
		ret = nvme_ng_buf_import(&nc->meta, &iov, 1, max, args->fixed,
					 args->issue_flags);
		if (ret != -EFAULT)
			return ret;
		nc->meta.len = 0;
	}
	return nvme_ng_buf_import(&nc->meta, &iov, 1, max, NULL, 0);
}

/*
 * A controller that takes Physical Region Pages is never told the length of a
 * buffer, nor is one told that of separate metadata, so the command itself
 * must not imply more than there is.  *@data_len becomes what is to be
 * described of the data.
 */
static int nvme_ng_check_length(struct nvme_ns *ns,
				struct nvme_command *cmd, bool sgl,
				u32 *data_len, u32 meta_len)
{
	int ret;

	if (likely(!nvme_ng_may_exceed(ns, sgl)))
		return 0;
	ret = nvme_ng_exceeds(ns, cmd, sgl, data_len, meta_len);
	return ret <= 0 || capable(CAP_SYS_ADMIN) ? min(ret, 0) : -EACCES;
}

/*
 * The same for the admin queue, which takes PRPs only.  Up to a page, what the
 * controller writes beyond the buffer of the program is lost.
 */
static int nvme_ng_check_admin_length(const struct nvme_command *cmd,
				      u32 *data_len)
{
	u64 data, meta;

	if (!nvme_ng_cmd_length(NULL, cmd, &data, &meta))
		return 0;
	/* what PRP 2 is depends on what the command moves */
	if (data <= NVME_CTRL_PAGE_SIZE || data <= *data_len)
		*data_len = data;
	/* no log that is free for others is longer, whatever is asked for */
	return data <= NVME_CTRL_PAGE_SIZE || capable(CAP_SYS_ADMIN) ?
		0 : -EINVAL;
}

/* The most that a vectored command can have, as for struct iovec */
#define NVME_NG_MAX_SEGMENTS	UIO_MAXIOV

/* The way of a command with regions: -EAGAIN if only a thread can make it. */
static int nvme_ng_find_regions(struct nvme_ns *ns, struct file *file,
				struct nvme_ng_args *args)
{
	args->open = nvme_ng_file_open(file);
	if (!args->open)
		return -ENOENT;
	args->path = nvme_ng_find_path(args->open, ns);
	if (args->path)
		return 0;
	if (args->issue_flags & IO_URING_F_NONBLOCK)
		return -EAGAIN;
	args->path = nvme_ng_get_path(args->open, ns);
	return PTR_ERR_OR_ZERO(args->path);
}

/* The segments of a command with regions, and their length. */
static int nvme_ng_copy_segments(struct nvme_ng_cmd *nc,
				 const struct nvme_ng_args *args, u64 max)
{
	unsigned int nr = args->vec ? args->data_len : 1;
	struct nvme_ng_segment *seg;
	u64 len = 0;
	u32 i;

	if (nr > NVME_NG_MAX_SEGMENTS)
		return -EINVAL;
	seg = kmalloc_array(nr ?: 1, sizeof(*seg), GFP_KERNEL);
	if (!seg)
		return -ENOMEM;
	if (!args->vec) {
		seg->region = READ_ONCE(args->regions->region);
		seg->len = args->data_len;
		seg->offset = args->addr;
	} else if (copy_from_user(seg, nvme_ng_ptr(args, args->addr),
				  nr * sizeof(*seg))) {
		kfree(seg);
		return -EFAULT;
	}
	for (i = 0; i < nr; i++)
		len += seg[i].len;
	if (len > max) {
		kfree(seg);
		return -EINVAL;
	}
	nc->seg = seg;
	nc->nr_seg = nr;
	return 0;
}

/* Find and describe the regions of a command in place. */
static int nvme_ng_map_regions(struct nvme_ng_cmd *nc, struct nvme_ns *ns,
			       struct nvme_ctrl *ctrl, struct nvme_command *cmd,
			       const struct nvme_ng_args *args)
{
	bool sgl = nvme_ng_has_sgl(ctrl, ns);
	u8 opcode = cmd->common.opcode;
	u32 len;
	int ret;

	rcu_read_lock();
	nc->epoch = nvme_ng_enter(args->open);
	rcu_read_unlock();
	ret = nvme_ng_import_segments(&nc->data, args->open, args->path,
				      nc->seg, nc->nr_seg, opcode, sgl);
	if (!ret && args->metadata_len) {
		rcu_read_lock();
		ret = nvme_ng_use_meta(args->open, args->path, args->regions,
				       args->metadata_len, cmd);
		rcu_read_unlock();
	}
	len = nc->data.len;
	if (!ret)
		ret = nvme_ng_check_length(ns, cmd, sgl, &len,
					   args->metadata_len);
	if (!ret) {
		nvme_ng_describe_nothing(sgl, cmd);
		if (nc->data.mapped)
			ret = nvme_ng_describe(&nc->data, nc->dev, len, sgl,
					       cmd, &nc->lists);
	}
	if (ret)
		nvme_ng_cmd_end(nc);
	return ret;
}

/* What nvme_ng_import() got hold of, if the command is not to be sent. */
static void nvme_ng_cmd_drop(struct nvme_ng_cmd *nc)
{
	kfree(nc->seg);
	nvme_ng_buf_release(&nc->data, false);
	nvme_ng_buf_release(&nc->meta, false);
}

/*
 * Get hold of the memory of a command.  A page may be a long time in coming, as
 * long as a user likes where that is a server of FUSE: there is no request yet
 * that a freeze of the queue would wait for.
 */
static int nvme_ng_import(struct nvme_ng_cmd *nc, struct nvme_ns *ns,
			  struct nvme_ctrl *ctrl, const struct nvme_command *cmd,
			  const struct nvme_ng_args *args)
{
	enum dma_data_direction dir = nvme_ng_dir(cmd);
	int ret;

	nc->dev = ctrl->dev;
	nc->epoch = NULL;
	nc->seg = NULL;
	nvme_ng_buf_init(&nc->data, dir, nc->few_data, NVME_NG_FEW_DATA);
	nvme_ng_buf_init(&nc->meta, dir, nc->few_meta, NVME_NG_FEW_META);
	if (args->regions)
		return nvme_ng_copy_segments(nc, args, nvme_ng_max(ctrl));
	ret = nvme_ng_import_data(nc, args, nvme_ng_max(ctrl));
	if (!ret)
		ret = nvme_ng_import_meta(nc, ns, args);
	if (ret)
		nvme_ng_cmd_drop(nc);
	return ret;
}

/* Map and describe the buffers of a command in place. */
static int nvme_ng_map_buffers(struct nvme_ng_cmd *nc, struct nvme_ns *ns,
			       struct nvme_ctrl *ctrl, struct nvme_command *cmd)
{
	bool sgl = nvme_ng_has_sgl(ctrl, ns);
	u32 len = nc->data.len;
	int ret;

	if (ns)
		ret = nvme_ng_check_length(ns, cmd, sgl, &len, nc->meta.len);
	else
		ret = nvme_ng_check_admin_length(cmd, &len);
	if (ret)
		return ret;
	ret = nvme_ng_buf_map(&nc->data, nc->dev, len,
			      nvme_ng_align_mask(ctrl, sgl),
			      sgl ? 0 : NVME_CTRL_PAGE_SIZE - 1, false);
	if (ret)
		return ret;
	if (nc->meta.len) {
		ret = nvme_ng_buf_map(&nc->meta, nc->dev, 0, 3, 0, true);
		if (ret)
			goto out_end;
		cmd->common.metadata =
			cpu_to_le64(sg_dma_address(nc->meta.dev));
	}
	/* nothing to describe for a command that moves nothing */
	if (nc->data.mapped || nvme_ng_moves_data(cmd)) {
		ret = nvme_ng_describe(&nc->data, nc->dev, len, sgl, cmd,
				       &nc->lists);
		if (ret)
			goto out_end;
	}
	return 0;

out_end:
	nvme_ng_cmd_end(nc);
	return ret;
}

/*
 * The rest, after nvme_ng_import(), with the request: what is freed to have
 * memory must not wait for a queue that waits for the request.
 */
static int nvme_ng_map(struct nvme_ng_cmd *nc, struct nvme_ns *ns,
		       struct nvme_ctrl *ctrl, struct nvme_command *cmd,
		       const struct nvme_ng_args *args)
{
	unsigned int noio = memalloc_noio_save();
	int ret;

	if (args->regions)
		ret = nvme_ng_map_regions(nc, ns, ctrl, cmd, args);
	else
		ret = nvme_ng_map_buffers(nc, ns, ctrl, cmd);
	memalloc_noio_restore(noio);
	if (ret) {
		nvme_ng_cmd_drop(nc);
		return ret;
	}
	kfree(nc->seg);
	nc->seg = NULL;
	return 0;
}

/* Find the one piece of memory in a registered buffer that @iov is. */
static int nvme_ng_find_fixed_piece(const struct iovec *iov,
				    enum dma_data_direction dir,
				    struct nvme_ng_args *args,
				    struct page **page, u32 *offset)
{
	const struct bio_vec *bv;
	struct iov_iter iter;
	size_t at;
	int ret;

	ret = nvme_ng_find_fixed(dir, iov, args->fixed, args->issue_flags,
				 &iter);
	if (ret)
		return ret;
	bv = iter.bvec;
	at = iter.iov_offset;
	/* a vector is read again, and may be another one then */
	if (!args->vec) {
		args->bv = bv;
		args->bv_offset = at;
	}
	if (bv->bv_len - at < iov->iov_len)
		return 1;
	at += bv->bv_offset;
	*page = bv->bv_page + at / PAGE_SIZE;
	*offset = at % PAGE_SIZE;
	return 0;
}

/* Find the one piece of memory that @iov is: 1 if there are more. */
static int nvme_ng_find_piece(struct nvme_ng_pdu *pdu, const struct iovec *iov,
			      enum dma_data_direction dir,
			      struct nvme_ng_args *args,
			      struct page **page, u32 *offset)
{
	int ret;

	pdu->data = args->fixed ? NVME_NG_FIXED : NVME_NG_PINNED;
	if (args->fixed)
		return nvme_ng_find_fixed_piece(iov, dir, args, page, offset);

	*offset = offset_in_page(iov->iov_base);
	if (*offset + iov->iov_len > PAGE_SIZE)
		return 1;
	ret = nvme_ng_pin_pages(iov->iov_base, 1, dir, page);
	if (ret < 0)
		return ret;
	pdu->pfn = page_to_pfn(*page);
	return 0;
}

/* One piece of memory, as it was found, and where the controller has it */
struct nvme_ng_piece {
	struct iovec		iov;
	struct page		*page;
	u32			offset;
	struct nvme_ng_mapping	*mapping;
};

/* Nothing is known of a piece any more. */
static void nvme_ng_drop_piece(struct nvme_ng_pdu *pdu,
			       struct nvme_ng_piece *piece)
{
	if (piece->mapping)
		nvme_ng_put_mapping(piece->mapping);
	nvme_ng_release_piece(pdu, false);
}

/* Is it mapped already, because it was used before?  No request is held. */
static void nvme_ng_recall_piece(struct nvme_ng_lane *lane, struct file *file,
				 const struct nvme_command *cmd,
				 const struct nvme_ng_args *args,
				 struct nvme_ng_piece *piece)
{
	bool write = args->fixed || nvme_ng_dir(cmd) != DMA_TO_DEVICE;

	piece->mapping = NULL;
#ifdef NVME_NG_FIXED
	if (args->fixed)
		return;
#endif
	if (lane)
		piece->mapping = nvme_ng_get_mapping(nvme_ng_file_open(file),
						     lane->path->device,
						     piece->page,
						     (uintptr_t)piece->iov.iov_base,
						     write);
	if (piece->mapping &&
	    !nvme_ng_in_mapping(piece->mapping, piece->page, piece->offset,
				piece->iov.iov_len)) {
		nvme_ng_put_mapping(piece->mapping);
		piece->mapping = NULL;
	}
}

/*
 * The common case: one piece of memory, and nothing but its address to be
 * remembered.  As for nvme_ng_import() there is no request yet.
 *
 * Return: 0 if that is it, 1 if it takes nvme_ng_import(), or a negative errno.
 */
static int nvme_ng_import_piece(struct nvme_ng_pdu *pdu, struct nvme_ns *ns,
				struct nvme_ctrl *ctrl,
				const struct nvme_command *cmd,
				struct nvme_ng_args *args,
				struct nvme_ng_piece *piece)
{
	bool sgl = nvme_ng_has_sgl(ctrl, ns);
	u32 align_mask = nvme_ng_align_mask(ctrl, sgl);
	struct iovec *iov = &piece->iov;
	int ret;

	if (!ns || args->metadata || (args->vec && args->data_len != 1))
		return 1;
	iov->iov_base = nvme_ng_ptr(args, args->addr);
	iov->iov_len = args->data_len;
	if (args->vec) {
		ret = nvme_ng_copy_iov(args, iov);
		if (ret)
			return ret;
	}
	if (!iov->iov_len || (!iov->iov_base && !args->fixed) ||
	    iov->iov_len > min_t(u64, nvme_ng_max(ctrl), NVME_NG_PIECE_MAX) ||
	    ((uintptr_t)iov->iov_base | iov->iov_len) & align_mask)
		return 1;
	ret = nvme_ng_find_piece(pdu, iov, nvme_ng_dir(cmd), args, &piece->page,
				 &piece->offset);
	if (ret)
		return ret;
	/* misaligned, of a registered buffer only; or a list for a third page */
	if (piece->offset & align_mask ||
	    (!sgl && piece->offset + iov->iov_len > 2 * NVME_CTRL_PAGE_SIZE)) {
		nvme_ng_release_piece(pdu, false);
		return 1;
	}
	return 0;
}

/* Map and describe a piece in place.  Return: 0 or a negative errno. */
static int nvme_ng_map_piece(struct nvme_ng_pdu *pdu, struct nvme_ns *ns,
			     struct nvme_ctrl *ctrl, struct nvme_command *cmd,
			     const struct nvme_ng_args *args,
			     struct nvme_ng_piece *piece)
{
	bool sgl = nvme_ng_has_sgl(ctrl, ns);
	u32 len = piece->iov.iov_len, moved = len;
	dma_addr_t dma;
	int ret;

#ifdef NVME_NG_FIXED
	/* the lock of a ring is not waited for now */
	if (args->fixed && !(args->issue_flags & IO_URING_F_UNLOCKED) &&
	    !nvme_ng_map_fixed(ns, args->fixed,
					      (uintptr_t)piece->iov.iov_base,
					      len, cmd, args->issue_flags)) {
		pdu->data = NVME_NG_REGION;
		pdu->epoch = NULL;
		return 0;
	}
#endif
	ret = nvme_ng_check_length(ns, cmd, sgl, &moved, 0);
	if (ret)
		goto out_drop;
	if (piece->mapping) {
		dma = nvme_ng_mapping_dma(piece->mapping, piece->page,
					  piece->offset);
		pdu->mapping = piece->mapping;
		pdu->kept = true;
	} else {
		dma = dma_map_page_attrs(ctrl->dev, piece->page, piece->offset,
					 len, nvme_ng_dir(cmd),
					 NVME_NG_OVERLAP);
		ret = -ENOMEM;
		if (dma_mapping_error(ctrl->dev, dma))
			goto out_drop;
		pdu->dma = dma;
		pdu->value = len;
	}
	nvme_ng_describe_one(dma, len, sgl, cmd);
	return 0;

out_drop:
	nvme_ng_drop_piece(pdu, piece);
	return ret;
}

/* The end of what nvme_ng_map_piece() has made.  Any context. */
static void nvme_ng_unmap_piece(struct io_uring_cmd *ioucmd, struct device *dev)
{
	struct nvme_ng_pdu *pdu = nvme_ng_pdu(ioucmd);

	if (pdu->kept)
		nvme_ng_put_mapping(pdu->mapping);
	else
		dma_unmap_page(dev, pdu->dma, pdu->value,
			       !(ioucmd->flags & NVME_NG_DIRTIES) ?
			       DMA_TO_DEVICE :
			       ioucmd->flags & NVME_NG_BOTH_WAYS ?
			       DMA_BIDIRECTIONAL : DMA_FROM_DEVICE);
}

/*
 * The same for a command whose data and metadata are in regions.
 *
 * Return: 0, 1 if it takes nvme_ng_import() after all, or a negative errno.
 */
static int nvme_ng_map_region(struct nvme_ng_pdu *pdu, struct nvme_command *cmd,
			      const struct nvme_ng_args *args)
{
	int ret;

	rcu_read_lock();
	pdu->data = NVME_NG_REGION;
	pdu->epoch = nvme_ng_enter(args->open);
	ret = nvme_ng_use_regions(args->open, args->path, args->regions, cmd, NULL);
	rcu_read_unlock();
	if (ret)
		nvme_ng_leave(pdu->epoch);
	return ret;
}

/* times the default that a user without privilege may give the controller */
#define NVME_NG_MAX_TIMEOUT	4

/**
 * nvme_ng_user_timeout - how long a program lets a command take
 * @q: queue of the namespace, or of the controller
 * @timeout_ms: as the program gave it, not 0
 * @admin: the program has CAP_SYS_ADMIN
 *
 * When it is over the controller is reset at last, for all, and until then a
 * command holds up who freezes the queue: without CAP_SYS_ADMIN it is the
 * default of the queue at least, and %NVME_NG_MAX_TIMEOUT times as much at
 * most.
 *
 * Return: jiffies, no more than a request or a comparison of times can have.
 */
unsigned int nvme_ng_user_timeout(struct request_queue *q, u32 timeout_ms,
				  bool admin)
{
	unsigned long timeout = msecs_to_jiffies(timeout_ms);
	unsigned long def = q->rq_timeout;

	if (!admin)
		timeout = clamp(timeout, def, NVME_NG_MAX_TIMEOUT * def);
	return min3(timeout, (unsigned long)MAX_JIFFY_OFFSET,
		    (unsigned long)UINT_MAX);
}

static struct request *nvme_ng_request(struct nvme_ctrl *ctrl,
				       struct nvme_ns *ns,
				       struct nvme_command *cmd,
				       const struct nvme_ng_args *args)
{
	struct request_queue *q = ns ? ns->queue : ctrl->admin_q;
	blk_mq_req_flags_t flags = 0;
	u8 described = cmd->common.flags;
	struct request *req;
	blk_opf_t opf = 0;

	if (args->issue_flags & IO_URING_F_NONBLOCK) {
		opf |= REQ_NOWAIT;
		flags |= BLK_MQ_REQ_NOWAIT;
	}
	if (args->issue_flags & IO_URING_F_IOPOLL)
		opf |= REQ_POLLED;
	req = blk_mq_alloc_request(q, nvme_req_op(cmd) | opf, flags);
	if (IS_ERR(req))
		return req;
	nvme_init_request(req, cmd);
	/* it takes commands whose data has not been described yet */
	nvme_req(req)->cmd->common.flags = described;
	nvme_req(req)->flags |= NVME_REQ_USERCMD;
	if (args->timeout_ms)
		req->timeout = nvme_ng_user_timeout(q, args->timeout_ms,
						    capable(CAP_SYS_ADMIN));
	return req;
}

/* Execute a command and wait for it, with what its effects ask for. */
static int nvme_ng_execute_sync(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
				struct nvme_command *cmd, const struct nvme_ng_args *args,
				u64 *result)
{
	struct nvme_ng_cmd *nc;
	struct request *req;
	u32 effects;
	int ret;

	nc = kmem_cache_alloc(nvme_ng_cmds, GFP_KERNEL);
	if (!nc)
		return -ENOMEM;
	ret = nvme_ng_import(nc, ns, ctrl, cmd, args);
	if (ret)
		goto out;
	req = nvme_ng_request(ctrl, ns, cmd, args);
	if (IS_ERR(req)) {
		ret = PTR_ERR(req);
		nvme_ng_cmd_drop(nc);
		goto out;
	}
	ret = nvme_ng_map(nc, ns, ctrl, nvme_req(req)->cmd, args);
	if (ret) {
		blk_mq_free_request(req);
		goto out;
	}
	effects = nvme_ng_execute(ctrl, ns, req, cmd->common.opcode,
				  &nc->status);
	*result = le64_to_cpu(nvme_req(req)->result.u64);
	nvme_ng_cmd_end(nc);
	blk_mq_free_request(req);
	nvme_ng_cmd_free(nc);
	ret = nc->status;
	if (effects)
		nvme_passthru_end(ctrl, ns, effects, cmd, ret);
out:
	kmem_cache_free(nvme_ng_cmds, nc);
	return ret;
}

/**
 * nvme_ng_uring_end - let go of what is the program's, and complete
 * @ioucmd: the command, after nvme_ng_end_data()
 * @issue_flags: as of io_uring
 *
 * Sleeps if nvme_ng_end_sleeps().
 */
void nvme_ng_uring_end(struct io_uring_cmd *ioucmd, unsigned int issue_flags)
{
	struct nvme_ng_pdu *pdu = nvme_ng_pdu(ioucmd);
	struct nvme_ng_cmd *nc = pdu->cmd;
	u64 result = pdu->result;
	int status = pdu->value;

	if (pdu->data != NVME_NG_BUFFERS) {
		/* the page of a write was pinned for reading only */
		nvme_ng_release_piece(pdu, !status &&
				      ioucmd->flags & NVME_NG_DIRTIES);
	} else {
		nvme_ng_cmd_free(nc);
		result = nc->result;
		status = nc->status;
		kmem_cache_free(nvme_ng_cmds, nc);
	}
	nvme_ng_uring_done(ioucmd, status, result, issue_flags);
}

static void nvme_ng_task_cb(NVME_NG_TW_ARGS)
{
	nvme_ng_uring_end(nvme_ng_tw_ioucmd, nvme_ng_tw_flags);
}

/**
 * nvme_ng_end_sleeps - may nvme_ng_uring_end() sleep?
 * @pdu: of the command
 *
 * Return: then it is not for a polled completion, which any ring may do for
 * another.
 */
bool nvme_ng_end_sleeps(const struct nvme_ng_pdu *pdu)
{
	const struct nvme_ng_cmd *nc = pdu->cmd;

	if (pdu->data != NVME_NG_BUFFERS)
		return pdu->data == NVME_NG_PINNED;
	return nvme_ng_buf_sleeps(&nc->data) ||
		(nc->meta.len && nvme_ng_buf_sleeps(&nc->meta));
}

/*
 * In the place of &nvme_ng_pdu.q: the command has ended, but for what sleeps.
 * That is done when its ring polls for it: a ring that comes to an end polls
 * until it has no command in flight, and lets no task work run meanwhile.
 */
#define NVME_NG_ENDED	((struct request_queue *)1)

/* Its ring polls for a command.  Return: whether that has ended by now. */
static bool nvme_ng_end_polled(struct io_uring_cmd *ioucmd)
{
	/* pairs with nvme_ng_end_elsewhere() */
	if (smp_load_acquire(&nvme_ng_pdu(ioucmd)->q) != NVME_NG_ENDED)
		return false;
	nvme_ng_uring_end(ioucmd, 0);
	return true;
}

/**
 * nvme_ng_end_elsewhere - end a command where its ring does not poll
 * @ioucmd: the command, after nvme_ng_end_data()
 *
 * Any context but one that holds the ring's uring_lock.
 */
void nvme_ng_end_elsewhere(struct io_uring_cmd *ioucmd)
{
	if (!nvme_ng_is_polled(ioucmd))
		nvme_ng_do_in_task(ioucmd, nvme_ng_task_cb);
	else if (nvme_ng_end_sleeps(nvme_ng_pdu(ioucmd)))
		/* pairs with nvme_ng_end_polled() */
		smp_store_release(&nvme_ng_pdu(ioucmd)->q, NVME_NG_ENDED);
	else
		nvme_ng_uring_end(ioucmd, IO_URING_F_UNLOCKED);
}

/**
 * nvme_ng_end_data - let go of what is the device's
 * @ioucmd: a command that has ended
 * @dev: the device
 * @status: NVMe status, or a negative errno
 * @result: dwords 0 and 1 of the completion
 *
 * Any context.
 */
void nvme_ng_end_data(struct io_uring_cmd *ioucmd, struct device *dev,
		      int status, u64 result)
{
	struct nvme_ng_pdu *pdu = nvme_ng_pdu(ioucmd);
	struct nvme_ng_cmd *nc = pdu->cmd;

	switch (pdu->data) {
	case NVME_NG_BUFFERS:
		nvme_ng_cmd_end(nc);
		nc->result = result;
		nc->status = status;
		return;
	case NVME_NG_PINNED:
	case NVME_NG_FIXED:
		nvme_ng_unmap_piece(ioucmd, dev);
		break;
	case NVME_NG_REGION:
		if (pdu->epoch)
			nvme_ng_leave(pdu->epoch);
		break;
	}
	pdu->result = result;
	pdu->value = status;
}

static enum rq_end_io_ret nvme_ng_end_io(NVME_NG_END_IO_ARGS)
{
	struct io_uring_cmd *ioucmd = req->end_io_data;
	struct nvme_ng_pdu *pdu = nvme_ng_pdu(ioucmd);
	bool polled;
	int status;

	if (nvme_req(req)->flags & NVME_REQ_CANCELLED) {
		status = -EINTR;
	} else {
		status = nvme_req(req)->status;
		if (!status)
			status = blk_status_to_errno(err);
	}
	nvme_ng_end_data(ioucmd, nvme_req(req)->ctrl->dev, status,
			 le64_to_cpu(nvme_req(req)->result.u64));
	polled = pdu->hctx;
	WRITE_ONCE(pdu->hctx, NULL);

	/* where the program's pages cannot be let go here, its task does it */
	if (polled &&
	    nvme_ng_poll_inline(ioucmd, nvme_ng_end_sleeps(pdu)))
		nvme_ng_uring_end(ioucmd, nvme_ng_poll_flags);
	else
		nvme_ng_end_elsewhere(ioucmd);
	return RQ_END_IO_FREE;
}

/*
 * Commands whose effects freeze queues or ask for a new scan are executed by
 * a thread that may wait.
 */
static bool nvme_ng_must_wait(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
			      u8 opcode)
{
	return nvme_command_effects(ctrl, ns, opcode) &
		(NVME_CMD_EFFECTS_CSE_MASK | NVME_CMD_EFFECTS_NCC |
		 NVME_CMD_EFFECTS_NIC | NVME_CMD_EFFECTS_CCC);
}

/* A command with buffers, after nvme_ng_import(). */
static int nvme_ng_new_cmd(struct nvme_ng_cmd **ncp, struct nvme_ns *ns,
			   struct nvme_ctrl *ctrl,
			   const struct nvme_command *cmd,
			   const struct nvme_ng_args *args)
{
	struct nvme_ng_cmd *nc;
	int ret;

	nc = kmem_cache_alloc(nvme_ng_cmds, GFP_KERNEL);
	if (!nc)
		return -ENOMEM;
	ret = nvme_ng_import(nc, ns, ctrl, cmd, args);
	if (ret) {
		kmem_cache_free(nvme_ng_cmds, nc);
		return ret;
	}
	*ncp = nc;
	return 0;
}

/* A command that is made will not be sent. */
static void nvme_ng_uring_undo(struct io_uring_cmd *ioucmd, struct device *dev)
{
	struct nvme_ng_pdu *pdu = nvme_ng_pdu(ioucmd);
	struct nvme_ng_cmd *nc = pdu->cmd;

	if (pdu->data != NVME_NG_BUFFERS) {
		nvme_ng_end_data(ioucmd, dev, 0, 0);
		nvme_ng_release_piece(pdu, false);
	} else {
		nvme_ng_cmd_end(nc);
		nvme_ng_cmd_drop(nc);
		kmem_cache_free(nvme_ng_cmds, nc);
	}
}

static int nvme_ng_uring_issue(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
			       struct io_uring_cmd *ioucmd, unsigned int issue_flags, bool vec,
			       bool regions)
{
	const struct nvme_ng_uring_cmd *sqe = nvme_ng_uring_sqe(ioucmd);
	struct nvme_ng_pdu *pdu = nvme_ng_pdu(ioucmd);
	bool write = ioucmd->file->f_mode & FMODE_WRITE, free;
	struct nvme_ng_args args = {
		.vec		= vec,
		.compat		= nvme_ng_uring_compat(ioucmd, issue_flags),
		.issue_flags	= issue_flags,
	};
	struct nvme_command cmd = { }, *at;
	struct nvme_ng_lane *lane = NULL;
	struct nvme_ng_cmd *nc = NULL;
	struct nvme_ng_piece piece;
	unsigned int noio, timeout;
	struct request *req;
	int ret, status;
	u64 result;

	pdu->word = NVME_NG_REGION;
	/* the program may change the entry at any time: read each field once */
	if (READ_ONCE(sqe->flags))
		return -EINVAL;
	cmd.common.opcode = READ_ONCE(sqe->opcode);
	cmd.common.nsid = cpu_to_le32(READ_ONCE(sqe->nsid));
	if (ns && le32_to_cpu(cmd.common.nsid) != ns->head->ns_id)
		return -EINVAL;
	cmd.common.cdw2[0] = cpu_to_le32(READ_ONCE(sqe->cdw2));
	cmd.common.cdw2[1] = cpu_to_le32(READ_ONCE(sqe->cdw3));
	cmd.common.cdw10 = cpu_to_le32(READ_ONCE(sqe->cdw10));
	cmd.common.cdw11 = cpu_to_le32(READ_ONCE(sqe->cdw11));
	cmd.common.cdw12 = cpu_to_le32(READ_ONCE(sqe->cdw12));
	cmd.common.cdw13 = cpu_to_le32(READ_ONCE(sqe->cdw13));
	cmd.common.cdw14 = cpu_to_le32(READ_ONCE(sqe->cdw14));
	cmd.common.cdw15 = cpu_to_le32(READ_ONCE(sqe->cdw15));
	/* what is free for everybody has no effects to wait for */
	free = ns && nvme_ng_io_is_free(ctrl, ns, cmd.common.opcode, write);
	if (unlikely(!free && !nvme_ng_allowed(ctrl, ns, &cmd, write)))
		return -EACCES;

	if (regions && (READ_ONCE(sqe->rsvd1) || READ_ONCE(sqe->rsvd2) ||
			(vec && READ_ONCE(sqe->region)) ||
			ioucmd->flags & IORING_URING_CMD_FIXED))
		return -EINVAL;
	args.addr = READ_ONCE(sqe->addr);
	args.data_len = READ_ONCE(sqe->data_len);
	args.metadata = READ_ONCE(sqe->metadata);
	args.metadata_len = READ_ONCE(sqe->metadata_len);
	args.timeout_ms = READ_ONCE(sqe->timeout_ms);
	if (ioucmd->flags & IORING_URING_CMD_FIXED)
		args.fixed = ioucmd;
	/* without data nothing has to be mapped */
	regions = regions && (args.data_len || args.metadata_len);
	if (regions) {
		args.regions = sqe;
		ret = nvme_ng_find_regions(ns, ioucmd->file, &args);
		if (unlikely(ret))
			return ret;
	}

	if (ns) {
		ret = nvme_ng_format_settle(ns, issue_flags &
						IO_URING_F_NONBLOCK);
		if (unlikely(ret))
			return ret;
	}
	if (unlikely(!free && nvme_ng_must_wait(ctrl, ns, cmd.common.opcode))) {
		if (issue_flags & IO_URING_F_NONBLOCK)
			return -EAGAIN;
		args.issue_flags &= ~IO_URING_F_IOPOLL;
		status = nvme_ng_execute_sync(ctrl, ns, &cmd, &args, &result);
		if (status < 0)
			return status;
		nvme_ng_uring_done(ioucmd, status, result, issue_flags);
		return -EIOCBQUEUED;
	}

	if (regions)
		ret = vec;
	else
		ret = nvme_ng_import_piece(pdu, ns, ctrl, &cmd, &args, &piece);
	if (ret > 0)
		ret = nvme_ng_new_cmd(&nc, ns, ctrl, &cmd, &args);
	if (ret)
		return ret;
	/* commands with data in one region have been there already */
	if (ns && issue_flags & IO_URING_F_NONBLOCK && (nc || !regions))
		lane = nvme_ng_find_lane(ioucmd->file, ns,
					 issue_flags & IO_URING_F_IOPOLL);
	if (!nc && !regions)
		nvme_ng_recall_piece(lane, ioucmd->file, &cmd, &args, &piece);
	/* a freeze waits for what holds the reference, or the request */
	if (lane && !percpu_ref_tryget_live(&ns->queue->q_usage_counter))
		lane = NULL;
	if (lane) {
		req = NULL;
		at = &cmd;
	} else {
		req = nvme_ng_request(ctrl, ns, &cmd, &args);
		if (IS_ERR(req)) {
			ret = PTR_ERR(req);
			goto out_release;
		}
		at = nvme_req(req)->cmd;
	}
	/* as in nvme_ng_map(), where there is more to allocate */
	noio = memalloc_noio_save();
	if (!nc && regions) {
		ret = nvme_ng_map_region(pdu, at, &args);
		/* there is no page to wait for in regions */
		if (ret > 0)
			ret = nvme_ng_new_cmd(&nc, ns, ctrl, &cmd, &args);
	} else if (!nc) {
		nvme_ng_note_dir(ioucmd, nvme_ng_dir(&cmd));
		ret = nvme_ng_map_piece(pdu, ns, ctrl, at, &args, &piece);
	}
	memalloc_noio_restore(noio);
	if (!ret && nc) {
		ret = nvme_ng_map(nc, ns, ctrl, at, &args);
		if (ret)
			kmem_cache_free(nvme_ng_cmds, nc);
		pdu->cmd = nc;
		pdu->data = NVME_NG_BUFFERS;
	}
	if (ret)
		goto out_free_request;
	if (lane) {
		timeout = args.timeout_ms ?
			nvme_ng_user_timeout(ns->queue, args.timeout_ms,
					     capable(CAP_SYS_ADMIN)) :
			ns->queue->rq_timeout;
		ret = nvme_ng_lean_send(lane, ioucmd, at, timeout);
		/* does not wait: there is the reference */
		if (ret > 0)
			req = nvme_ng_request(ctrl, ns, at, &args);
		percpu_ref_put(&ns->queue->q_usage_counter);
		if (ret <= 0)
			return ret;
		if (IS_ERR(req)) {
			nvme_ng_uring_undo(ioucmd, ctrl->dev);
			return PTR_ERR(req);
		}
	}
	pdu->q = req->q;
	pdu->hctx = req->mq_hctx->type == HCTX_TYPE_POLL ? req->mq_hctx : NULL;
	req->end_io_data = ioucmd;
	req->end_io = nvme_ng_end_io;
	blk_execute_rq_nowait(req, false);
	return -EIOCBQUEUED;

out_free_request:
	if (lane)
		percpu_ref_put(&ns->queue->q_usage_counter);
	else
		blk_mq_free_request(req);
	return ret;

out_release:
	if (nc) {
		nvme_ng_cmd_drop(nc);
		kmem_cache_free(nvme_ng_cmds, nc);
	} else if (!regions) {
		nvme_ng_drop_piece(pdu, &piece);
	}
	return ret;
}

static int nvme_ng_uring_check(unsigned int issue_flags)
{
	const unsigned int big = IO_URING_F_SQE128 | IO_URING_F_CQE32;

	return (issue_flags & big) == big ? 0 : -EOPNOTSUPP;
}

static int nvme_ng_uring_request(struct nvme_ns *ns,
				 struct io_uring_cmd *ioucmd,
				 unsigned int issue_flags)
{
	int ret = nvme_ng_uring_check(issue_flags);

	if (unlikely(ret))
		return ret;
	switch (ioucmd->cmd_op) {
	case NVME_URING_CMD_IO:
		return nvme_ng_uring_issue(ns->ctrl, ns, ioucmd, issue_flags,
					   false, false);
	case NVME_URING_CMD_IO_VEC:
		return nvme_ng_uring_issue(ns->ctrl, ns, ioucmd, issue_flags,
					   true, false);
	case NVME_NG_URING_CMD_IO:
		return nvme_ng_uring_issue(ns->ctrl, ns, ioucmd, issue_flags,
					   false, true);
	case NVME_NG_URING_CMD_IO_VEC:
		return nvme_ng_uring_issue(ns->ctrl, ns, ioucmd, issue_flags,
					   true, true);
	case NVME_NG_URING_CMD_ARRAY:
		return nvme_ng_issue_array(ns, ioucmd, issue_flags);
	default:
		return -ENOTTY;
	}
}

/* In line: the lean path has few instructions. */
static __always_inline int nvme_ng_uring_cmd(struct nvme_ns *ns,
					     struct io_uring_cmd *ioucmd,
					     unsigned int issue_flags)
{
	const unsigned int lean = IO_URING_F_SQE128 | IO_URING_F_CQE32;
	int ret = 1;

	if ((issue_flags & (lean | IO_URING_F_UNLOCKED)) == lean) {
		if (nvme_ng_is_lean(ioucmd))
			ret = nvme_ng_lean_issue(ns, ioucmd,
						 issue_flags &
						 IO_URING_F_IOPOLL);
		else if (ioucmd->cmd_op == NVME_NG_URING_CMD_IO_VEC)
			ret = nvme_ng_lean_issue_vec(ns, ioucmd, issue_flags);
		else
			ret = nvme_ng_lean_issue_piece(ns, ioucmd, issue_flags);
		if (likely(ret <= 0))
			return ret;
	}
	return nvme_ng_uring_request(ns, ioucmd, issue_flags);
}

static int nvme_ng_poll_request(struct nvme_ng_pdu *pdu,
				struct request_queue *q,
				struct io_comp_batch *iob,
				unsigned int poll_flags)
{
	unsigned long until = jiffies + 1;
	struct blk_mq_hw_ctx *hctx;
	int ret;

	/* as long as the request lives, so does the queue */
	rcu_read_lock();
	hctx = READ_ONCE(pdu->hctx);
	if (!hctx || !percpu_ref_tryget(&q->q_usage_counter)) {
		rcu_read_unlock();
		return 0;
	}
	rcu_read_unlock();

	do {
		ret = q->mq_ops->poll(hctx, iob);
		if (ret || poll_flags & BLK_POLL_ONESHOT)
			break;
		if (signal_pending(current)) {
			ret = 1;
			break;
		}
		cpu_relax();
		/*
		 * Another ring may have found the completion, or that of a
		 * later command of this ring, which is not looked at here.
		 */
	} while (!need_resched() && READ_ONCE(pdu->hctx) &&
		 time_before(jiffies, until));
	percpu_ref_put(&q->q_usage_counter);
	return ret;
}

static int nvme_ng_poll(struct io_uring_cmd *ioucmd,
			struct io_comp_batch *iob, unsigned int poll_flags)
{
	struct nvme_ng_pdu *pdu = nvme_ng_pdu(ioucmd);
	struct request_queue *q = READ_ONCE(pdu->q);
	int ret;

	if (!q)
		return nvme_ng_lean_poll(ioucmd, poll_flags);
	if (nvme_ng_end_polled(ioucmd))
		return 1;
	ret = nvme_ng_poll_request(pdu, q, iob, poll_flags);
	if (nvme_ng_end_polled(ioucmd))
		ret = 1;
	return ret;
}

static int nvme_ng_user_cmd64(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
			      const struct nvme_passthru_cmd64 *u, bool vec, bool write,
			      u64 *result)
{
	struct nvme_ng_args args = {
		.addr		= u->addr,
		.data_len	= u->data_len,
		.metadata	= u->metadata,
		.metadata_len	= u->metadata_len,
		.timeout_ms	= u->timeout_ms,
		.vec		= vec,
		.compat		= in_compat_syscall(),
	};
	struct nvme_command cmd = { };
	int ret;

	if (u->flags)
		return -EINVAL;
	if (ns && u->nsid != ns->head->ns_id)
		return -EINVAL;
	cmd.common.opcode = u->opcode;
	cmd.common.nsid = cpu_to_le32(u->nsid);
	cmd.common.cdw2[0] = cpu_to_le32(u->cdw2);
	cmd.common.cdw2[1] = cpu_to_le32(u->cdw3);
	cmd.common.cdw10 = cpu_to_le32(u->cdw10);
	cmd.common.cdw11 = cpu_to_le32(u->cdw11);
	cmd.common.cdw12 = cpu_to_le32(u->cdw12);
	cmd.common.cdw13 = cpu_to_le32(u->cdw13);
	cmd.common.cdw14 = cpu_to_le32(u->cdw14);
	cmd.common.cdw15 = cpu_to_le32(u->cdw15);
	if (!nvme_ng_allowed(ctrl, ns, &cmd, write))
		return -EACCES;
	if (ns) {
		ret = nvme_ng_format_settle(ns, false);
		if (ret)
			return ret;
	}
	return nvme_ng_execute_sync(ctrl, ns, &cmd, &args, result);
}

static int nvme_ng_ioctl_cmd64(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
			       struct nvme_passthru_cmd64 __user *arg, bool vec, bool write)
{
	struct nvme_passthru_cmd64 u;
	u64 result;
	int ret;

	if (copy_from_user(&u, arg, sizeof(u)))
		return -EFAULT;
	ret = nvme_ng_user_cmd64(ctrl, ns, &u, vec, write, &result);
	if (ret >= 0 && put_user(result, &arg->result))
		ret = -EFAULT;
	return ret;
}

static int nvme_ng_ioctl_cmd(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
			     struct nvme_passthru_cmd __user *arg, bool write)
{
	struct nvme_passthru_cmd64 u = { };
	u64 result;
	int ret;

	/* the structures agree up to and including timeout_ms */
	BUILD_BUG_ON(offsetof(struct nvme_passthru_cmd, timeout_ms) !=
		     offsetof(struct nvme_passthru_cmd64, timeout_ms));
	if (copy_from_user(&u, arg, offsetofend(struct nvme_passthru_cmd,
						timeout_ms)))
		return -EFAULT;
	ret = nvme_ng_user_cmd64(ctrl, ns, &u, false, write, &result);
	if (ret >= 0 && put_user((u32)result, &arg->result))
		ret = -EFAULT;
	return ret;
}

/*
 * NVME_IOCTL_SUBMIT_IO gives blocks, not bytes.  32-bit programs have it
 * without the padding at the end where they align 64 bits to 32.
 */
#define NVME_NG_SUBMIT_IO32	_IOC(_IOC_WRITE, 'N', \
				     _IOC_NR(NVME_IOCTL_SUBMIT_IO), \
				     offsetofend(struct nvme_user_io, appmask))

static int nvme_ng_ioctl_submit_io(struct nvme_ns *ns,
				   struct nvme_user_io __user *arg, size_t size,
				   bool write)
{
	struct nvme_passthru_cmd64 u = { };
	struct nvme_command cmd = { };
	struct nvme_user_io io;
	u64 data, meta, result;
	int ret;

	if (copy_from_user(&io, arg, size))
		return -EFAULT;
	if (io.flags)
		return -EINVAL;
	/* the opcodes mean something else in another command set */
	if (ns->head->ids.csi != NVME_CSI_NVM &&
	    ns->head->ids.csi != NVME_CSI_ZNS)
		return -EINVAL;
	if (io.opcode != nvme_cmd_read && io.opcode != nvme_cmd_write &&
	    io.opcode != nvme_cmd_compare)
		return -EINVAL;

	u.opcode = io.opcode;
	u.nsid = ns->head->ns_id;
	u.cdw10 = lower_32_bits(io.slba);
	u.cdw11 = upper_32_bits(io.slba);
	u.cdw12 = io.nblocks | (u32)io.control << 16;
	u.cdw13 = io.dsmgmt;
	u.cdw14 = io.reftag;
	u.cdw15 = io.apptag | (u32)io.appmask << 16;

	cmd.common.opcode = u.opcode;
	cmd.common.cdw12 = cpu_to_le32(u.cdw12);
	/* bytes cannot be told from blocks now */
	ret = nvme_ng_format_settle(ns, false);
	if (ret)
		return ret;
	if (!(nvme_ng_block_format(ns) & NVME_NG_FORMAT_KNOWN))
		return -EAGAIN;
	if (!nvme_ng_cmd_length(ns, &cmd, &data, &meta) || data > U32_MAX)
		return -EINVAL;
	u.addr = io.addr;
	u.data_len = data;
	if (meta) {
		if (!io.metadata || io.metadata & 3)
			return -EINVAL;
		u.metadata = io.metadata;
		u.metadata_len = meta;
	}
	return nvme_ng_user_cmd64(ns->ctrl, ns, &u, false, write, &result);
}

static int nvme_ng_ioctl_limits(struct nvme_ns *ns, void __user *arg)
{
	struct nvme_ng_limits __user *u = arg;
	struct nvme_ng_limits lim = { };
	u32 size, in[2];

	BUILD_BUG_ON(sizeof(lim) != 72);
	if (copy_from_user(in, arg, sizeof(in)))
		return -EFAULT;
	size = in[0];
	if (in[1] || size < 16 || size > PAGE_SIZE)
		return -EINVAL;
	nvme_ng_limits(ns, &lim);
	lim.size = min_t(u32, size, sizeof(lim));
	if (copy_to_user(u, &lim, lim.size))
		return -EFAULT;
	if (size > sizeof(lim) &&
	    clear_user(u + 1, size - sizeof(lim)))
		return -EFAULT;
	return 0;
}

/* -ENOIOCTLCMD: left to the stock code */
static long nvme_ng_ioctl(struct file *file, struct nvme_ns *ns,
			  unsigned int cmd, void __user *arg)
{
	bool write = file->f_mode & FMODE_WRITE;

	if (cmd == NVME_NG_IOCTL_LIMITS)
		return nvme_ng_ioctl_limits(ns, arg);
	if (cmd == NVME_NG_IOCTL_UNMAP)
		return nvme_ng_ioctl_unmap(file, arg);
	if (!nvme_ng_is_direct(ns->ctrl))
		return cmd == NVME_NG_IOCTL_MAP || cmd == NVME_NG_IOCTL_RING ?
			-EOPNOTSUPP : -ENOIOCTLCMD;
	switch (cmd) {
	case NVME_NG_IOCTL_MAP:
		return nvme_ng_ioctl_map(file, ns, arg);
	case NVME_NG_IOCTL_RING:
		return nvme_ng_ioctl_ring(file, ns, arg);
	case NVME_IOCTL_IO_CMD:
		return nvme_ng_ioctl_cmd(ns->ctrl, ns, arg, write);
	case NVME_IOCTL_IO64_CMD:
		return nvme_ng_ioctl_cmd64(ns->ctrl, ns, arg, false, write);
	case NVME_IOCTL_IO64_CMD_VEC:
		return nvme_ng_ioctl_cmd64(ns->ctrl, ns, arg, true, write);
	case NVME_IOCTL_SUBMIT_IO:
#ifdef CONFIG_COMPAT_FOR_U64_ALIGNMENT
	case NVME_NG_SUBMIT_IO32:
#endif
		return nvme_ng_ioctl_submit_io(ns, arg, _IOC_SIZE(cmd), write);
	default:
		return -ENOIOCTLCMD;
	}
}

static bool nvme_ng_is_admin_ioctl(unsigned int cmd)
{
	return cmd == NVME_IOCTL_ADMIN_CMD || cmd == NVME_IOCTL_ADMIN64_CMD;
}

static long nvme_ng_admin_ioctl(struct nvme_ctrl *ctrl, unsigned int cmd,
				void __user *arg, bool write)
{
	if (!nvme_ng_is_direct(ctrl))
		return -ENOIOCTLCMD;
	if (cmd == NVME_IOCTL_ADMIN_CMD)
		return nvme_ng_ioctl_cmd(ctrl, NULL, arg, write);
	return nvme_ng_ioctl_cmd64(ctrl, NULL, arg, false, write);
}

static struct nvme_ns *nvme_ng_file_ns(struct file *file)
{
	return container_of(file_inode(file)->i_cdev, struct nvme_ns, cdev);
}

/**
 * nvme_ng_chr_ioctl - ->unlocked_ioctl() of a namespace
 * @file: the open node
 * @cmd: request
 * @arg: its argument
 *
 * Return: an NVMe status, 0 or a negative errno.
 */
long nvme_ng_chr_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct nvme_ns *ns = nvme_ng_file_ns(file);
	bool write = file->f_mode & FMODE_WRITE;
	void __user *argp = (void __user *)arg;
	long ret;

	if (nvme_ng_is_admin_ioctl(cmd))
		ret = nvme_ng_admin_ioctl(ns->ctrl, cmd, argp, write);
	else
		ret = nvme_ng_ioctl(file, ns, cmd, argp);
	return ret == -ENOIOCTLCMD ? nvme_ns_chr_ioctl(file, cmd, arg) : ret;
}

/**
 * nvme_ng_chr_uring_cmd - ->uring_cmd() of a namespace
 * @ioucmd: the command
 * @issue_flags: as io_uring gave them
 *
 * Return: -EIOCBQUEUED once the command is on its way; -EOPNOTSUPP without big
 * entries; -ENOTTY for an unknown operation; -EINVAL for flags, an NSID or a
 * length that cannot be; -EACCES where the process may not; -EFAULT, -ENOMEM;
 * -EAGAIN to be called again from a context that can wait.
 */
int nvme_ng_chr_uring_cmd(struct io_uring_cmd *ioucmd, unsigned int issue_flags)
{
	struct nvme_ns *ns = nvme_ng_file_ns(ioucmd->file);

	if (nvme_ng_is_direct(ns->ctrl))
		return nvme_ng_uring_cmd(ns, ioucmd, issue_flags);
	return nvme_ns_chr_uring_cmd(ioucmd, nvme_ng_stock_flags(issue_flags));
}

/**
 * nvme_ng_chr_uring_cmd_iopoll - ->uring_cmd_iopoll() of a namespace
 * @ioucmd: a command in flight
 * @iob: where completions may be gathered
 * @poll_flags: BLK_POLL_* flags
 *
 * Return: more than 0 if completions were found.
 */
int nvme_ng_chr_uring_cmd_iopoll(struct io_uring_cmd *ioucmd,
				 struct io_comp_batch *iob, unsigned int poll_flags)
{
	if (nvme_ng_is_direct(nvme_ng_file_ns(ioucmd->file)->ctrl))
		return nvme_ng_poll(ioucmd, iob, poll_flags);
	return nvme_ng_stock_iopoll(ioucmd, iob, poll_flags);
}

/**
 * nvme_ng_dev_chr_ioctl - ->unlocked_ioctl() of a controller
 * @file: the open node
 * @cmd: request
 * @arg: its argument
 *
 * Return: an NVMe status, 0 or a negative errno.
 */
long nvme_ng_dev_chr_ioctl(struct file *file, unsigned int cmd,
			   unsigned long arg)
{
	struct nvme_ctrl *ctrl = file->private_data;
	long ret = -ENOIOCTLCMD;

	if (nvme_ng_is_admin_ioctl(cmd))
		ret = nvme_ng_admin_ioctl(ctrl, cmd, (void __user *)arg,
					  file->f_mode & FMODE_WRITE);
	/* deprecated, and the stock code does not check lengths */
	else if (cmd == NVME_IOCTL_IO_CMD && nvme_ng_is_direct(ctrl) &&
		 !capable(CAP_SYS_ADMIN))
		ret = -EACCES;
	return ret == -ENOIOCTLCMD ? nvme_dev_ioctl(file, cmd, arg) : ret;
}

/**
 * nvme_ng_dev_chr_uring_cmd - ->uring_cmd() of a controller
 * @ioucmd: the command
 * @issue_flags: as io_uring gave them
 *
 * The admin queue is not polled: a ring that polls gets -EOPNOTSUPP, unless the
 * kernel lets such a ring wait for the interrupt, as 7.3 does.
 *
 * Return: as nvme_ng_chr_uring_cmd().
 */
int nvme_ng_dev_chr_uring_cmd(struct io_uring_cmd *ioucmd,
			      unsigned int issue_flags)
{
	struct nvme_ctrl *ctrl = ioucmd->file->private_data;
	const struct nvme_ng_uring_cmd *sqe = nvme_ng_uring_sqe(ioucmd);
	int ret;

	if (!nvme_ng_is_direct(ctrl)) {
		/* the stock driver would not tell that formats change */
		if (nvme_ng_must_wait(ctrl, NULL, READ_ONCE(sqe->opcode)) &&
		    nvme_ng_judges(ctrl))
			return -EOPNOTSUPP;
		return nvme_dev_uring_cmd(ioucmd, issue_flags);
	}
	ret = nvme_ng_uring_check(issue_flags);
	if (ret)
		return ret;
	if (issue_flags & IO_URING_F_IOPOLL)
		return -EOPNOTSUPP;
	switch (ioucmd->cmd_op) {
	case NVME_URING_CMD_ADMIN:
		return nvme_ng_uring_issue(ctrl, NULL, ioucmd, issue_flags,
					   false, false);
	case NVME_URING_CMD_ADMIN_VEC:
		return nvme_ng_uring_issue(ctrl, NULL, ioucmd, issue_flags,
					   true, false);
	default:
		return -ENOTTY;
	}
}

#ifdef CONFIG_NVME_MULTIPATH
/*
 * The stock functions of a head look for a path again, which may be one of
 * ours: these give them the one that was found.
 */
static long nvme_ng_path_admin_ioctl(struct nvme_ctrl *ctrl, unsigned int cmd,
				     void __user *arg, bool write)
{
	long ret = nvme_ng_admin_ioctl(ctrl, cmd, arg, write);

	return ret == -ENOIOCTLCMD ?
		nvme_ng_stock_ctrl_ioctl(ctrl, cmd, arg, write) : ret;
}

static long nvme_ng_path_ioctl(struct file *file, struct nvme_ns *ns,
			       unsigned int cmd, void __user *arg)
{
	long ret = nvme_ng_ioctl(file, ns, cmd, arg);

	if (ret != -ENOIOCTLCMD || nvme_ng_is_direct(ns->ctrl))
		return ret;
	ret = nvme_ng_stock_ioctl(ns, cmd, arg, file->f_mode & FMODE_WRITE);
	/* what needs no path */
	return ret == -ENOTTY ? -ENOIOCTLCMD : ret;
}

static int nvme_ng_path_uring_cmd(struct nvme_ns *ns,
				  struct io_uring_cmd *ioucmd,
				  unsigned int issue_flags)
{
	if (!nvme_ng_is_direct(ns->ctrl)) {
		/* it may have been tried on another path */
		ioucmd->flags &= ~NVME_NG_OURS;
		return nvme_ns_uring_cmd(ns, ioucmd,
					 nvme_ng_stock_flags(issue_flags));
	}
	ioucmd->flags |= NVME_NG_OURS;
	return nvme_ng_uring_cmd(ns, ioucmd, issue_flags);
}

static struct nvme_ns_head *nvme_ng_file_head(struct file *file)
{
	return container_of(file_inode(file)->i_cdev, struct nvme_ns_head,
			    cdev);
}

static void nvme_ng_put_ns(struct nvme_ns *ns)
{
	struct module *module = ns->ctrl->ops->module;

	nvme_put_ns(ns);
	module_put(module);
}

/*
 * The usable path of a head, or NULL.  A command that waits must not hold up
 * the removal of paths, as it would under &nvme_ns_head.srcu: it has a
 * reference to its namespace, and to the module that a head does not keep.
 */
static struct nvme_ns *nvme_ng_get_ns(struct nvme_ns_head *head)
{
	int srcu = srcu_read_lock(&head->srcu);
	struct nvme_ns *ns = nvme_find_path(head);

	if (ns && !try_module_get(ns->ctrl->ops->module))
		ns = NULL;
	if (ns && !kref_get_unless_zero(&ns->kref)) {
		module_put(ns->ctrl->ops->module);
		ns = NULL;
	}
	srcu_read_unlock(&head->srcu, srcu);
	return ns;
}

/**
 * nvme_ng_head_chr_ioctl - ->unlocked_ioctl() of a multipath head
 * @file: the open node
 * @cmd: request
 * @arg: its argument
 *
 * Return: as nvme_ng_chr_ioctl(); -EWOULDBLOCK without a usable path.
 */
long nvme_ng_head_chr_ioctl(struct file *file, unsigned int cmd,
			    unsigned long arg)
{
	bool write = file->f_mode & FMODE_WRITE;
	void __user *argp = (void __user *)arg;
	struct nvme_ns *ns;
	long ret;

	/* memory can be let go of when there is no path any more, too */
	if (cmd == NVME_NG_IOCTL_UNMAP)
		return nvme_ng_ioctl_unmap(file, argp);
	ns = nvme_ng_get_ns(nvme_ng_file_head(file));
	if (!ns)
		return -EWOULDBLOCK;
	if (nvme_ng_is_admin_ioctl(cmd))
		ret = nvme_ng_path_admin_ioctl(ns->ctrl, cmd, argp, write);
	else
		ret = nvme_ng_path_ioctl(file, ns, cmd, argp);
	nvme_ng_put_ns(ns);
	return ret == -ENOIOCTLCMD ? nvme_ns_head_chr_ioctl(file, cmd, arg) :
		ret;
}

/**
 * nvme_ng_head_chr_uring_cmd - ->uring_cmd() of a multipath head
 * @ioucmd: the command
 * @issue_flags: as io_uring gave them
 *
 * A command is not sent again over another path.  Without a usable path it
 * completes with -EAGAIN.
 *
 * Return: as nvme_ng_chr_uring_cmd().
 */
int nvme_ng_head_chr_uring_cmd(struct io_uring_cmd *ioucmd,
			       unsigned int issue_flags)
{
	struct nvme_ns_head *head = nvme_ng_file_head(ioucmd->file);
	/* only data in one region takes no memory of the program */
	bool waits = !(issue_flags & IO_URING_F_NONBLOCK) ||
		ioucmd->cmd_op != NVME_NG_URING_CMD_IO;
	int ret = -EIOCBQUEUED, srcu = 0;
	struct nvme_ns *ns;

	if (waits) {
		ns = nvme_ng_get_ns(head);
	} else {
		srcu = srcu_read_lock(&head->srcu);
		ns = nvme_find_path(head);
	}
	/* returned, -EAGAIN would make io_uring try again, and again */
	if (!ns)
		nvme_ng_uring_done(ioucmd, -EAGAIN, 0, issue_flags);
	else
		ret = nvme_ng_path_uring_cmd(ns, ioucmd, issue_flags);
	if (!waits)
		srcu_read_unlock(&head->srcu, srcu);
	else if (ns)
		nvme_ng_put_ns(ns);
	return ret;
}

/**
 * nvme_ng_head_chr_uring_cmd_iopoll - ->uring_cmd_iopoll() of a multipath head
 * @ioucmd: a command in flight
 * @iob: where completions may be gathered
 * @poll_flags: BLK_POLL_* flags
 *
 * Return: more than 0 if completions were found.
 */
int nvme_ng_head_chr_uring_cmd_iopoll(struct io_uring_cmd *ioucmd,
				      struct io_comp_batch *iob, unsigned int poll_flags)
{
	/* the path of now is not the command's */
	if (ioucmd->flags & NVME_NG_OURS)
		return nvme_ng_poll(ioucmd, iob, poll_flags);
	return nvme_ng_stock_iopoll(ioucmd, iob, poll_flags);
}
#endif /* CONFIG_NVME_MULTIPATH */
