// SPDX-License-Identifier: LGPL-2.1-or-later
/* Commands, with their dwords as the NVM, ZNS and KV Command Sets have them. */
#include <endian.h>
#include <string.h>
#include <linux/nvme_ioctl.h>

#include "private.h"

enum {
	CMD_WRITE = 0x01,
	CMD_READ = 0x02,
	CMD_ZONE_APPEND = 0x7d,

	CMD_KV_STORE = 0x01,
	CMD_KV_RETRIEVE = 0x02,
	CMD_KV_LIST = 0x06,
	CMD_KV_DELETE = 0x10,
	CMD_KV_EXIST = 0x14,
};

#define MAX_BLOCKS	65536
/* A flag is -EINVAL for everybody: the command ends with that when submitted. */
#define FLAG_REFUSED	0xff

struct nvme_ng_uring_cmd *nvmeng_prep(struct io_uring_sqe *sqe,
				      const struct nvmeng *dev, __u8 opcode,
				      const struct nvmeng_data *data)
{
	struct nvme_ng_uring_cmd *cmd = (struct nvme_ng_uring_cmd *)sqe->cmd;

	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = dev->fd;
	sqe->cmd_op = NVME_URING_CMD_IO;
	cmd->opcode = opcode;
	cmd->nsid = dev->limits.nsid;
	if (!data)
		return cmd;
	if (data->region)
		sqe->cmd_op = NVME_NG_URING_CMD_IO;
	if (data->meta_len ? !data->region != !data->meta_region :
			     data->meta_region)
		cmd->flags = FLAG_REFUSED;
	cmd->addr = data->addr;
	cmd->data_len = data->len;
	cmd->metadata = data->meta;
	cmd->metadata_len = data->meta_len;
	cmd->region = data->region;
	cmd->meta_region = data->meta_region;
	return cmd;
}

static struct nvme_ng_uring_cmd *prep_blocks(struct io_uring_sqe *sqe,
					     const struct nvmeng *dev,
					     __u8 opcode,
					     const struct nvmeng_data *data,
					     __u64 lba)
{
	struct nvme_ng_uring_cmd *cmd = nvmeng_prep(sqe, dev, opcode, data);
	__u32 size = dev->block_size, len = data->len;

	if (!size || !len || len % size || len / size > MAX_BLOCKS)
		cmd->flags = FLAG_REFUSED;
	else
		cmd->cdw12 = len / size - 1;
	cmd->cdw10 = lba;
	cmd->cdw11 = lba >> 32;
	return cmd;
}

struct nvme_ng_uring_cmd *nvmeng_prep_read(struct io_uring_sqe *sqe,
					   const struct nvmeng *dev,
					   const struct nvmeng_data *data,
					   __u64 lba)
{
	return prep_blocks(sqe, dev, CMD_READ, data, lba);
}

struct nvme_ng_uring_cmd *nvmeng_prep_write(struct io_uring_sqe *sqe,
					    const struct nvmeng *dev,
					    const struct nvmeng_data *data,
					    __u64 lba)
{
	return prep_blocks(sqe, dev, CMD_WRITE, data, lba);
}

struct nvme_ng_uring_cmd *nvmeng_prep_append(struct io_uring_sqe *sqe,
					     const struct nvmeng *dev,
					     const struct nvmeng_data *data,
					     __u64 zslba)
{
	return prep_blocks(sqe, dev, CMD_ZONE_APPEND, data, zslba);
}

/* Key Value: the key is in dwords 2, 3, 14 and 15 as it is in memory. */
static struct nvme_ng_uring_cmd *prep_kv(struct io_uring_sqe *sqe,
					 const struct nvmeng *dev, __u8 opcode,
					 const struct nvmeng_data *data,
					 const void *key, size_t key_len)
{
	struct nvme_ng_uring_cmd *cmd = nvmeng_prep(sqe, dev, opcode, data);
	__u32 dwords[NVMENG_KEY_MAX / 4] = { 0 };

	if (key_len > sizeof(dwords)) {
		cmd->flags = FLAG_REFUSED;
		return cmd;
	}
	if (key_len)
		memcpy(dwords, key, key_len);
	cmd->cdw2 = le32toh(dwords[0]);
	cmd->cdw3 = le32toh(dwords[1]);
	cmd->cdw10 = cmd->data_len;
	cmd->cdw11 = key_len;
	cmd->cdw14 = le32toh(dwords[2]);
	cmd->cdw15 = le32toh(dwords[3]);
	return cmd;
}

struct nvme_ng_uring_cmd *nvmeng_prep_store(struct io_uring_sqe *sqe,
					    const struct nvmeng *dev,
					    const struct nvmeng_data *data,
					    const void *key, size_t key_len,
					    unsigned int options)
{
	struct nvme_ng_uring_cmd *cmd = prep_kv(sqe, dev, CMD_KV_STORE, data,
						key, key_len);

	if (options > 0xff)
		cmd->flags = FLAG_REFUSED;
	cmd->cdw11 |= options << 8;
	return cmd;
}

struct nvme_ng_uring_cmd *nvmeng_prep_retrieve(struct io_uring_sqe *sqe,
					       const struct nvmeng *dev,
					       const struct nvmeng_data *data,
					       const void *key, size_t key_len)
{
	return prep_kv(sqe, dev, CMD_KV_RETRIEVE, data, key, key_len);
}

struct nvme_ng_uring_cmd *nvmeng_prep_list(struct io_uring_sqe *sqe,
					   const struct nvmeng *dev,
					   const struct nvmeng_data *data,
					   const void *key, size_t key_len)
{
	return prep_kv(sqe, dev, CMD_KV_LIST, data, key, key_len);
}

struct nvme_ng_uring_cmd *nvmeng_prep_delete(struct io_uring_sqe *sqe,
					     const struct nvmeng *dev,
					     const void *key, size_t key_len)
{
	return prep_kv(sqe, dev, CMD_KV_DELETE, NULL, key, key_len);
}

struct nvme_ng_uring_cmd *nvmeng_prep_exist(struct io_uring_sqe *sqe,
					    const struct nvmeng *dev,
					    const void *key, size_t key_len)
{
	return prep_kv(sqe, dev, CMD_KV_EXIST, NULL, key, key_len);
}

/*
 * A list is the number of keys, and of each its length, 16 bits, the key, and
 * as many bytes as the next one needs to begin at a multiple of 4.  Nothing that
 * a controller says leads out of it.
 */
void nvmeng_list_init(struct nvmeng_list *list, const void *data, size_t len)
{
	__le32 keys = 0;

	memset(list, 0, sizeof(*list));
	if (len < sizeof(keys))
		return;
	memcpy(&keys, data, sizeof(keys));
	list->keys = le32toh(keys);
	list->next = (const unsigned char *)data + sizeof(keys);
	list->left = len - sizeof(keys);
}

size_t nvmeng_list_next(struct nvmeng_list *list, const void **key)
{
	size_t len, size;

	if (!list->keys || list->left < 2)
		return 0;
	len = list->next[0] | list->next[1] << 8;
	if (!len || len > NVMENG_KEY_MAX || len > list->left - 2)
		return 0;
	*key = list->next + 2;
	size = (2 + len + 3) & ~3UL;
	if (size > list->left)
		size = list->left;
	list->next += size;
	list->left -= size;
	list->keys--;
	return len;
}
