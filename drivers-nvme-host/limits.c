// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-ng: what a program needs to know before it can form a command, by
 * ioctl from an open descriptor and by sysfs for everybody.
 */
#include <linux/blk-mq.h>
#include <linux/device.h>
#include "ng.h"

/**
 * nvme_ng_max_transfer - largest data length of a command
 * @ns: the namespace
 *
 * Return: bytes.
 */
u32 nvme_ng_max_transfer(struct nvme_ns *ns)
{
	if (nvme_ng_is_direct(ns->ctrl))
		return min_t(u64, (u64)ns->ctrl->max_hw_sectors << SECTOR_SHIFT,
			     U32_MAX & PAGE_MASK);
	return queue_max_hw_sectors(ns->queue) << SECTOR_SHIFT;
}

/**
 * nvme_ng_max_metadata - largest separate metadata length of a command
 * @ns: the namespace
 * @format: its block format
 *
 * Return: bytes, 0 if the namespace has no separate metadata.
 */
u32 nvme_ng_max_metadata(struct nvme_ns *ns, u32 format)
{
	u32 shift = nvme_ng_format_shift(format);

	if (!shift || format & NVME_NG_FORMAT_EXT)
		return 0;
	return min_t(u32, nvme_ng_max_transfer(ns) >> shift, 65536) *
		nvme_ng_format_ms(format);
}

/**
 * nvme_ng_metadata_bound - the longest separate metadata to accept
 * @ns: the namespace
 *
 * Return: bytes; not only what the format has room for while that is not known.
 */
u32 nvme_ng_metadata_bound(struct nvme_ns *ns)
{
	u32 format = nvme_ng_block_format(ns);

	return format & NVME_NG_FORMAT_KNOWN ?
		nvme_ng_max_metadata(ns, format) : SZ_1M;
}

/**
 * nvme_ng_limits - collect the limits of a namespace
 * @ns: the namespace
 * @lim: filled in but for size and flags
 *
 * No command is sent for it: what it tells was read by the last scan.
 */
void nvme_ng_limits(struct nvme_ns *ns, struct nvme_ng_limits *lim)
{
	struct nvme_ctrl *ctrl = ns->ctrl;
	const struct nvme_ng_ns *p = container_of(ns, struct nvme_ng_ns, ns);
	/* a reset may lose the I/O queues, and the tag set with them */
	struct blk_mq_tag_set *tagset = READ_ONCE(ctrl->tagset);
	bool direct = nvme_ng_is_direct(ctrl);
	bool sgl = nvme_ctrl_sgl_supported(ctrl);
	u32 format = nvme_ng_block_format(ns);
	u32 shift = nvme_ng_format_shift(format);

	lim->csi = ns->head->ids.csi;
	lim->nsid = ns->head->ns_id;
	if (sgl)
		lim->features |= NVME_NG_F_SGL;
	if (tagset && tagset->nr_maps > HCTX_TYPE_POLL &&
	    tagset->map[HCTX_TYPE_POLL].nr_queues)
		lim->features |= NVME_NG_F_POLL;

	lim->max_transfer = nvme_ng_max_transfer(ns);
	if (direct) {
		if (IS_ENABLED(CONFIG_IO_URING))
			lim->features |= NVME_NG_F_REGIONS;
		lim->max_segments = UIO_MAXIOV;
		lim->dma_alignment = sgl && (ctrl->sgls & 3) == 1 ? 1 : 4;
		lim->virt_boundary = sgl ? 0 : NVME_CTRL_PAGE_SIZE;
	} else {
		lim->max_segments = queue_max_segments(ns->queue);
		lim->dma_alignment = queue_dma_alignment(ns->queue) + 1;
		if (queue_virt_boundary(ns->queue))
			lim->virt_boundary = queue_virt_boundary(ns->queue) + 1;
	}

	switch (ns->head->ids.csi) {
	case NVME_CSI_ZNS:
#ifdef CONFIG_BLK_DEV_ZONED
		if (shift)
			lim->zone_size = nvme_ng_format(ns)->zsze >>
				(shift - SECTOR_SHIFT);
		lim->max_append = min_t(u64, lim->max_transfer,
					(u64)ctrl->max_zone_append << SECTOR_SHIFT);
#endif
		fallthrough;
	case NVME_CSI_NVM:
		lim->lba_size = shift ? 1U << shift : 0;
		lim->metadata_size = nvme_ng_format_ms(format);
		lim->pi_type = nvme_ng_format(ns)->pi_type;
		lim->pi_size = lim->pi_type ? nvme_ng_format(ns)->pi_size : 0;
		lim->max_metadata = nvme_ng_max_metadata(ns, format);
		if (format & NVME_NG_FORMAT_EXT && lim->metadata_size)
			lim->features |= NVME_NG_F_EXT_LBA;
		break;
	case NVME_NG_CSI_KV:
		lim->max_key_len = READ_ONCE(p->max_key_len);
		lim->max_value_len = READ_ONCE(p->max_value_len);
		break;
	}
}

static int nvme_ng_device_limits(struct device *dev, struct nvme_ng_limits *lim)
{
	int ret = -EWOULDBLOCK;

	if (dev->groups == nvme_ng_ns_groups) {
		nvme_ng_limits(container_of(dev, struct nvme_ns, cdev_device),
			       lim);
		return 0;
	}
#ifdef CONFIG_NVME_MULTIPATH
	{
		struct nvme_ns_head *head =
			container_of(dev, struct nvme_ns_head, cdev_device);
		int srcu = srcu_read_lock(&head->srcu);
		struct nvme_ns *ns = nvme_find_path(head);

		if (ns) {
			nvme_ng_limits(ns, lim);
			ret = 0;
		}
		srcu_read_unlock(&head->srcu, srcu);
	}
#endif
	return ret;
}

#define NVME_NG_LIMIT_ATTR(name)					\
static ssize_t name##_show(struct device *dev,				\
		struct device_attribute *attr, char *buf)		\
{									\
	struct nvme_ng_limits lim = { };				\
	int ret = nvme_ng_device_limits(dev, &lim);			\
									\
	return ret ? ret : sysfs_emit(buf, "%llu\n", (u64)lim.name);	\
}									\
static DEVICE_ATTR_RO(name)

NVME_NG_LIMIT_ATTR(csi);
NVME_NG_LIMIT_ATTR(nsid);
NVME_NG_LIMIT_ATTR(features);
NVME_NG_LIMIT_ATTR(max_transfer);
NVME_NG_LIMIT_ATTR(max_segments);
NVME_NG_LIMIT_ATTR(max_metadata);
NVME_NG_LIMIT_ATTR(dma_alignment);
NVME_NG_LIMIT_ATTR(virt_boundary);
NVME_NG_LIMIT_ATTR(lba_size);
NVME_NG_LIMIT_ATTR(metadata_size);
NVME_NG_LIMIT_ATTR(pi_type);
NVME_NG_LIMIT_ATTR(pi_size);
NVME_NG_LIMIT_ATTR(zone_size);
NVME_NG_LIMIT_ATTR(max_append);
NVME_NG_LIMIT_ATTR(max_key_len);
NVME_NG_LIMIT_ATTR(max_value_len);

static struct attribute *nvme_ng_limit_attrs[] = {
	&dev_attr_csi.attr,
	&dev_attr_nsid.attr,
	&dev_attr_features.attr,
	&dev_attr_max_transfer.attr,
	&dev_attr_max_segments.attr,
	&dev_attr_max_metadata.attr,
	&dev_attr_dma_alignment.attr,
	&dev_attr_virt_boundary.attr,
	&dev_attr_lba_size.attr,
	&dev_attr_metadata_size.attr,
	&dev_attr_pi_type.attr,
	&dev_attr_pi_size.attr,
	&dev_attr_zone_size.attr,
	&dev_attr_max_append.attr,
	&dev_attr_max_key_len.attr,
	&dev_attr_max_value_len.attr,
	NULL,
};

static const struct attribute_group nvme_ng_limit_group = {
	.attrs	= nvme_ng_limit_attrs,
};

/* one array for each kind of node, by which the two are told apart */
const struct attribute_group *nvme_ng_ns_groups[] = {
	&nvme_ng_limit_group,
	NULL,
};

const struct attribute_group *nvme_ng_head_groups[] = {
	&nvme_ng_limit_group,
	NULL,
};
