/* SPDX-License-Identifier: GPL-2.0 */
/*
 * nvme-ng: passthrough through the generic NVMe character devices.
 */
#ifndef _NVME_NG_H
#define _NVME_NG_H

#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/uio.h>
#include "compat.h"
#include "nvme_ng.h"
#include "ng-fops.h"

struct nvme_ng_epoch;
struct nvme_ng_open;

/* I/O Command Set 1: NVM Express Key Value Command Set specification */
#define NVME_NG_CSI_KV		1
enum {
	nvme_ng_kv_store	= 0x01,
	nvme_ng_kv_retrieve	= 0x02,
	nvme_ng_kv_list		= 0x06,
	nvme_ng_kv_delete	= 0x10,
	nvme_ng_kv_exist	= 0x14,
};

/* the block format of a namespace, &nvme_ng_ns.format */
#define NVME_NG_FORMAT_KNOWN	BIT(0)	/* the rest is true */
#define NVME_NG_FORMAT_EXT	BIT(1)	/* metadata follows each block */
#define NVME_NG_FORMAT_PI	BIT(2)	/* it is protection information only */
#define NVME_NG_FORMAT_SHIFT	8	/* LBA Data Size, 8 bits */
#define NVME_NG_FORMAT_MS	16	/* Metadata Size, 16 bits */

/**
 * struct nvme_ng_scratch - memory for metadata that no program wants
 * @len: bytes of each of the two
 * @zeros: what controllers read
 * @zeros_dma: where that is for them
 * @sink: what they write, and nobody reads
 * @sink_dma: where that is for them
 *
 * Belongs to the device, and ends when the driver is unbound from it.
 */
struct nvme_ng_scratch {
	u32		len;
	void		*zeros;
	dma_addr_t	zeros_dma;
	void		*sink;
	dma_addr_t	sink_dma;
};

/**
 * struct nvme_ng_ns - a namespace, with what is kept of it here
 * @ns: the namespace
 * @format: NVME_NG_FORMAT_*, read with nvme_ng_block_format()
 * @changing: commands under way that may change @format
 * @gone: it has left its head
 * @settle_by: jiffies until which commands wait for @format to be read again
 * @max_key_len: of a Key Value namespace in bytes, 0 if not known
 * @max_value_len: the same
 * @scratch: for separate metadata, or NULL
 */
struct nvme_ng_ns {
	struct nvme_ns			ns;
	u32				format;
	unsigned int			changing;
	bool				gone;
	unsigned long			settle_by;
	u16				max_key_len;
	u32				max_value_len;
	const struct nvme_ng_scratch	*scratch;
};

/**
 * nvme_ng_block_format - the block format by which to judge a command
 * @ns: the namespace
 *
 * The caller holds a request of the namespace's queue, or what else a freeze
 * of the queue waits for: the format stays true until that ends.
 *
 * Return: NVME_NG_FORMAT_*; without NVME_NG_FORMAT_KNOWN nothing is known.
 */
static inline u32 nvme_ng_block_format(struct nvme_ns *ns)
{
	return READ_ONCE(container_of(ns, struct nvme_ng_ns, ns)->format);
}

/* Blocks without separate or extended metadata, whose size is known? */
static inline bool nvme_ng_format_is_plain(u32 format)
{
	return (format & (NVME_NG_FORMAT_KNOWN |
			  GENMASK(31, NVME_NG_FORMAT_MS))) ==
		NVME_NG_FORMAT_KNOWN;
}

/* Bytes of metadata of a block */
static inline u16 nvme_ng_format_ms(u32 format)
{
	return format >> NVME_NG_FORMAT_MS;
}

/* 0 where the format is not known or no block device could have it */
static inline u32 nvme_ng_format_shift(u32 format)
{
	u8 shift = format >> NVME_NG_FORMAT_SHIFT;

	return format & NVME_NG_FORMAT_KNOWN && shift >= SECTOR_SHIFT &&
		shift < 32 ? shift : 0;
}

/* I/O command of every command set, NVM Express Base specification 2.0 */
#define NVME_NG_CANCEL		0x18

/**
 * struct nvme_ng_list - descriptor memory of a command
 * @next: more of it
 * @desc: SGL descriptors or PRP entries; NULL in the first one: there is none
 * @dma: address of @desc for the device
 * @pool: where @desc is from
 */
struct nvme_ng_list {
	struct nvme_ng_list	*next;
	void			*desc;
	dma_addr_t		dma;
	struct dma_pool		*pool;
};

/**
 * struct nvme_ng_buf - a user buffer of one command, data or metadata
 * @user: the pages of the user, an array
 * @dev: what the device sees: @user, or pages of the kernel
 * @nr_user: elements of @user in use
 * @nr_dev: elements of @dev in use
 * @nr_dma: elements of @dev with an address for the device, once @mapped
 * @len: bytes of the user
 * @dev_len: bytes that the device may move, at least @len
 * @bounce: memory of the kernel behind @dev, or NULL
 * @dir: direction of the DMA mapping
 * @pinned: @user holds a pin on each page; otherwise io_uring does
 * @mapped: @dev is mapped for DMA
 * @premapped: by a region, which also has the pages: @nr_user is 0
 * @seams: any bit of an address where two elements of @user meet
 * @few: elements that need no allocation
 * @nr_few: number of them
 *
 * Owned by one command.  The mapping ends before the request does, so that
 * it never outlives the device; the pages are let go in task context after.
 */
struct nvme_ng_buf {
	struct scatterlist	*user;
	struct scatterlist	*dev;
	unsigned int		nr_user;
	unsigned int		nr_dev;
	unsigned int		nr_dma;
	u32			len;
	u32			dev_len;
	void			*bounce;
	enum dma_data_direction	dir;
	bool			pinned;
	bool			mapped;
	bool			premapped;
	u32			seams;
	struct scatterlist	*few;
	unsigned int		nr_few;
};

/* field by field: most of the structure needs no value yet */
static inline void nvme_ng_buf_init(struct nvme_ng_buf *buf,
				    enum dma_data_direction dir,
				    struct scatterlist *few,
				    unsigned int nr_few)
{
	buf->dir = dir;
	buf->user = few;
	buf->nr_user = 0;
	buf->nr_dev = 0;
	buf->len = 0;
	buf->dev_len = 0;
	buf->bounce = NULL;
	buf->pinned = false;
	buf->mapped = false;
	buf->premapped = false;
	buf->seams = 0;
	buf->few = few;
	buf->nr_few = nr_few;
}

/* May nvme_ng_buf_release() sleep?  It unpins, copies, or frees a large table. */
static inline bool nvme_ng_buf_sleeps(const struct nvme_ng_buf *buf)
{
	return (buf->pinned && buf->nr_user) || buf->bounce ||
		(buf->user != buf->few && is_vmalloc_addr(buf->user));
}

/* Pin pages of the current process: how many, at least 1, or an errno. */
static inline int nvme_ng_pin_pages(const void __user *addr, int nr,
				    enum dma_data_direction dir,
				    struct page **pages)
{
	nr = pin_user_pages_fast((unsigned long)addr & PAGE_MASK, nr,
				 dir == DMA_TO_DEVICE ? 0 : FOLL_WRITE, pages);
	/* beyond the last address, some kernels say 0, some -EOVERFLOW */
	return nr && nr != -EOVERFLOW ? nr : -EFAULT;
}

/*
 * Find a part of a registered buffer: -EFAULT if @iov is not in it.  Only the
 * first bvec of @iter and the offset into it count.
 */
static inline int nvme_ng_find_fixed(enum dma_data_direction dir,
				     const struct iovec *iov,
				     struct io_uring_cmd *ioucmd,
				     unsigned int issue_flags,
				     struct iov_iter *iter)
{
	int ret = nvme_ng_import_fixed((uintptr_t)iov->iov_base, iov->iov_len,
				       dir == DMA_TO_DEVICE ? WRITE : READ,
				       iter, ioucmd, issue_flags);

	return min(ret, 0);
}

int nvme_ng_buf_import(struct nvme_ng_buf *buf, const struct iovec *iov,
		       unsigned int nr, u64 max, struct io_uring_cmd *ioucmd,
		       unsigned int issue_flags);
int nvme_ng_buf_map(struct nvme_ng_buf *buf, struct device *dev, u32 len,
		    u32 align_mask, u32 gap_mask, bool contig);
void nvme_ng_buf_unmap(struct nvme_ng_buf *buf, struct device *dev);
int nvme_ng_buf_release(struct nvme_ng_buf *buf, bool copy);

int nvme_ng_buf_import_found(struct nvme_ng_buf *buf, const struct iovec *iov,
			     const struct bio_vec *bv, size_t offset);
void nvme_ng_describe_one(dma_addr_t dma, u32 len, bool sgl,
			  struct nvme_command *cmd);
int nvme_ng_describe(struct nvme_ng_buf *buf, struct device *dev, u32 len,
		     bool sgl, struct nvme_command *cmd,
		     struct nvme_ng_list *list);
void nvme_ng_free_lists(struct nvme_ng_list *list);

static inline void nvme_ng_sgl_set(struct nvme_sgl_desc *d, dma_addr_t addr,
				   u32 len, u8 type)
{
	__le64 *rest = (__le64 *)&d->length;

	/* length, reserved and type at once */
	BUILD_BUG_ON(offsetof(struct nvme_sgl_desc, length) != 8);
	d->addr = cpu_to_le64(addr);
	*rest = cpu_to_le64(len | (u64)type << 60);
}

bool nvme_ng_io_is_free(struct nvme_ctrl *ctrl, struct nvme_ns *ns, u8 opcode,
			bool write);
bool nvme_ng_allowed(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
		     const struct nvme_command *cmd, bool write);
bool nvme_ng_cmd_length(struct nvme_ns *ns, const struct nvme_command *cmd,
			u64 *data, u64 *meta);
bool nvme_ng_metadata_unknown(struct nvme_ns *ns,
			      const struct nvme_command *cmd);
bool nvme_ng_use_scratch(struct nvme_ns *ns, struct nvme_command *cmd,
			 u64 len);

u32 nvme_ng_max_transfer(struct nvme_ns *ns);
u32 nvme_ng_max_metadata(struct nvme_ns *ns, u32 format);
void nvme_ng_limits(struct nvme_ns *ns, struct nvme_ng_limits *lim);

u32 nvme_ng_metadata_bound(struct nvme_ns *ns);
int nvme_ng_format_settle(struct nvme_ns *ns, bool nowait);
bool nvme_ng_judges(struct nvme_ctrl *ctrl);

static inline bool nvme_ng_is_direct(struct nvme_ctrl *ctrl)
{
	return ctrl->ops->flags & NVME_F_DIRECT;
}

int nvme_ng_ioctl_map(struct file *file, struct nvme_ns *ns, void __user *arg);
int nvme_ng_ioctl_unmap(struct file *file, void __user *arg);

/* What the file has mapped, NULL if nothing yet. */
static inline struct nvme_ng_open *nvme_ng_file_open(struct file *file)
{
	/* pairs with the cmpxchg() in nvme_ng_get_open() */
	return smp_load_acquire(&file->private_data);
}

/* Does data travel with its length?  The admin queue takes PRPs only. */
static inline bool nvme_ng_has_sgl(struct nvme_ctrl *ctrl, struct nvme_ns *ns)
{
	return ns && nvme_ctrl_sgl_supported(ctrl);
}

/* What must be clear in addresses and lengths, NVM Express Base, SGLS field */
static inline u32 nvme_ng_align_mask(struct nvme_ctrl *ctrl, bool sgl)
{
	return sgl && (ctrl->sgls & 3) == 1 ? 0 : 3;
}

static inline enum dma_data_direction nvme_ng_opcode_dir(u8 opcode)
{
	switch (opcode & 3) {
	case 1:
		return DMA_TO_DEVICE;
	case 2:
		return DMA_FROM_DEVICE;
	default:
		/* also opcodes that claim to move nothing but come with data */
		return DMA_BIDIRECTIONAL;
	}
}

static inline enum dma_data_direction
nvme_ng_dir(const struct nvme_command *cmd)
{
	return nvme_ng_opcode_dir(cmd->common.opcode);
}

static inline u64 nvme_ng_max(struct nvme_ctrl *ctrl)
{
	return (u64)ctrl->max_hw_sectors << SECTOR_SHIFT;
}

/* opcode bits 1:0, NVM Express Base specification, Opcode field */
static inline bool nvme_ng_moves_data(const struct nvme_command *cmd)
{
	return cmd->common.opcode & 3;
}

/* A data pointer of no bytes; a PRP 1 of 0 would read as an address. */
static inline void nvme_ng_describe_nothing(bool sgl, struct nvme_command *cmd)
{
	memset(&cmd->common.dptr, 0, sizeof(cmd->common.dptr));
	cmd->common.flags = sgl && nvme_ng_moves_data(cmd) ?
		NVME_CMD_SGL_METABUF : 0;
}

#endif /* _NVME_NG_H */
