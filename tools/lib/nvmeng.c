// SPDX-License-Identifier: LGPL-2.1-or-later
/* Nodes, regions and rings. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/nvme_ioctl.h>

#include "private.h"

#define ADMIN_IDENTIFY	0x06
#define IDENTIFY_LEN	4096

int nvmeng_refresh(struct nvmeng *dev)
{
	struct nvme_ng_limits lim = { .size = sizeof(lim) };

	if (ioctl(dev->fd, NVME_NG_IOCTL_LIMITS, &lim))
		return -errno;
	dev->limits = lim;
	dev->block_size = lim.lba_size;
	if (lim.lba_size && (lim.features & NVME_NG_F_EXT_LBA))
		dev->block_size += lim.metadata_size;
	return 0;
}

int nvmeng_open(const char *node, int flags, struct nvmeng **dev)
{
	struct nvmeng *new = calloc(1, sizeof(*new));
	int ret;

	if (!new)
		return -ENOMEM;
	new->fd = open(node, flags | O_CLOEXEC);
	if (new->fd < 0) {
		ret = -errno;
		goto out_free;
	}
	ret = nvmeng_refresh(new);
	if (ret) {
		/* what is said of an operation that is not known differs */
		if (ret == -EINVAL)
			ret = -ENOTTY;
		goto out_close;
	}
	*dev = new;
	return 0;

out_close:
	close(new->fd);
out_free:
	free(new);
	return ret;
}

void nvmeng_close(struct nvmeng *dev)
{
	if (!dev)
		return;
	close(dev->fd);
	free(dev);
}

int nvmeng_fd(const struct nvmeng *dev)
{
	return dev->fd;
}

const struct nvme_ng_limits *nvmeng_limits(const struct nvmeng *dev)
{
	return &dev->limits;
}

__u32 nvmeng_block_size(const struct nvmeng *dev)
{
	return dev->block_size;
}

int nvmeng_identify(const struct nvmeng *dev, __u8 cns, __u8 csi, void *data)
{
	struct nvme_passthru_cmd cmd = {
		.opcode = ADMIN_IDENTIFY,
		.nsid = dev->limits.nsid,
		.addr = (uintptr_t)data,
		.data_len = IDENTIFY_LEN,
		.cdw10 = cns,
		.cdw11 = (__u32)csi << 24,
	};
	int ret = ioctl(dev->fd, NVME_IOCTL_ADMIN_CMD, &cmd);

	return ret < 0 ? -errno : ret & NVMENG_STATUS;
}

static int map(const struct nvmeng *dev, struct nvme_ng_map *map, __u32 *region,
	       __u32 *granule)
{
	map->size = sizeof(*map);
	if (ioctl(dev->fd, NVME_NG_IOCTL_MAP, map))
		return -errno;
	*region = map->region;
	if (granule)
		*granule = map->granule;
	return 0;
}

int nvmeng_map(const struct nvmeng *dev, void *addr, size_t len,
	       unsigned int flags, __u32 *region, __u32 *granule)
{
	struct nvme_ng_map arg = {
		.flags = flags,
		.addr = (uintptr_t)addr,
		.len = len,
		.dmabuf_fd = -1,
	};

	return map(dev, &arg, region, granule);
}

int nvmeng_map_dmabuf(const struct nvmeng *dev, int fd, __u64 offset, __u64 len,
		      unsigned int flags, __u32 *region, __u32 *granule)
{
	struct nvme_ng_map arg = {
		.flags = flags | NVME_NG_MAP_DMABUF,
		.addr = offset,
		.len = len,
		.dmabuf_fd = fd,
	};

	return map(dev, &arg, region, granule);
}

int nvmeng_unmap(const struct nvmeng *dev, __u32 region)
{
	return ioctl(dev->fd, NVME_NG_IOCTL_UNMAP, &region) ? -errno : 0;
}

int nvmeng_ring_init(unsigned int entries, struct io_uring *ring,
		     unsigned int flags)
{
	flags |= IORING_SETUP_SQE128 | IORING_SETUP_CQE32 |
		 IORING_SETUP_SINGLE_ISSUER;
	/* completions when the program looks, not in the middle of its work */
	if (!(flags & (IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL)))
		flags |= IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
	return io_uring_queue_init(entries, ring, flags);
}

int nvmeng_submit(struct io_uring *ring, unsigned int wait)
{
	return io_uring_submit_and_wait(ring, wait);
}

static void decode(const struct io_uring_cqe *cqe, struct nvmeng_result *result)
{
	result->user_data = cqe->user_data;
	result->value = cqe->big_cqe[0];
	result->status = cqe->res < 0 ? cqe->res : cqe->res & NVMENG_STATUS;
}

unsigned int nvmeng_reap(struct io_uring *ring, struct nvmeng_result *results,
			 unsigned int max)
{
	struct io_uring_cqe *cqe;
	unsigned int n = 0;

	while (n < max && !io_uring_peek_cqe(ring, &cqe)) {
		decode(cqe, &results[n++]);
		io_uring_cqe_seen(ring, cqe);
	}
	return n;
}

int nvmeng_run(struct io_uring *ring, __u64 *value)
{
	struct nvmeng_result result;
	int ret;

	/* its memory is in use until it has completed: signals do not count */
	while (!nvmeng_reap(ring, &result, 1)) {
		ret = nvmeng_submit(ring, 1);
		if (ret < 0 && ret != -EINTR)
			return ret;
	}
	if (value)
		*value = result.value;
	return result.status;
}
