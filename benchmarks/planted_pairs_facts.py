"""Facts in both languages, in two halves that share none: countries, animals, inventions, lists, parallel sentences."""
# ruff: noqa: E501  # a row of a table stays in one line

# English|Chinese|capital|capital|continent|continent|language|language|river, lake or mountain|the same|dish|dish
# |currency|currency|inhabitants in millions|area in thousand square kilometres
COUNTRIES = ("""\
Peru|秘鲁|Lima|利马|South America|南美洲|Spanish|西班牙语|Lake Titicaca|的的喀喀湖|ceviche|酸橘汁腌鱼|sol|索尔|34|1285
Egypt|埃及|Cairo|开罗|Africa|非洲|Arabic|阿拉伯语|the Nile|尼罗河|koshari|库莎丽|pound|埃及镑|111|1002
Japan|日本|Tokyo|东京|Asia|亚洲|Japanese|日语|Mount Fuji|富士山|ramen|拉面|yen|日元|124|378
Norway|挪威|Oslo|奥斯陆|Europe|欧洲|Norwegian|挪威语|the Glomma|格洛马河|brown cheese|棕色奶酪|krone|挪威克朗|5|385
Brazil|巴西|Brasília|巴西利亚|South America|南美洲|Portuguese|葡萄牙语|the Amazon|亚马孙河|feijoada|黑豆炖肉|real|雷亚尔|203|8510
Kenya|肯尼亚|Nairobi|内罗毕|Africa|非洲|Swahili|斯瓦希里语|Lake Turkana|图尔卡纳湖|ugali|乌伽黎|shilling|先令|55|580
Vietnam|越南|Hanoi|河内|Asia|亚洲|Vietnamese|越南语|the Red River|红河|pho|河粉|dong|越南盾|99|331
Poland|波兰|Warsaw|华沙|Europe|欧洲|Polish|波兰语|the Vistula|维斯瓦河|pierogi|波兰饺子|zloty|兹罗提|37|313
Mexico|墨西哥|Mexico City|墨西哥城|North America|北美洲|Spanish|西班牙语|the Rio Grande|格兰德河|mole|莫莱酱鸡|peso|比索|129|1964
Turkey|土耳其|Ankara|安卡拉|Asia|亚洲|Turkish|土耳其语|Lake Van|凡湖|menemen|番茄炒蛋饼|lira|里拉|85|784
Ghana|加纳|Accra|阿克拉|Africa|非洲|English|英语|Lake Volta|沃尔特湖|jollof rice|加罗夫饭|cedi|塞地|34|239
Thailand|泰国|Bangkok|曼谷|Asia|亚洲|Thai|泰语|the Chao Phraya|湄南河|pad thai|泰式炒粉|baht|泰铢|71|513
Greece|希腊|Athens|雅典|Europe|欧洲|Greek|希腊语|Mount Olympus|奥林匹斯山|moussaka|木莎卡|euro|欧元|10|132
Chile|智利|Santiago|圣地亚哥|South America|南美洲|Spanish|西班牙语|Ojos del Salado|奥霍斯德尔萨拉多山|empanada|馅饼|peso|智利比索|19|756
Hungary|匈牙利|Budapest|布达佩斯|Europe|欧洲|Hungarian|匈牙利语|Lake Balaton|巴拉顿湖|goulash|土豆烧牛肉|forint|福林|9|93
Morocco|摩洛哥|Rabat|拉巴特|Africa|非洲|Arabic|阿拉伯语|Mount Toubkal|图卜卡勒山|tagine|塔吉锅|dirham|迪拉姆|37|447
Canada|加拿大|Ottawa|渥太华|North America|北美洲|English|英语|Lake Ontario|安大略湖|poutine|肉汁薯条|dollar|加元|40|9985
Nepal|尼泊尔|Kathmandu|加德满都|Asia|亚洲|Nepali|尼泊尔语|Mount Everest|珠穆朗玛峰|dal bhat|扁豆汤饭|rupee|卢比|30|147
Portugal|葡萄牙|Lisbon|里斯本|Europe|欧洲|Portuguese|葡萄牙语|the Tagus|塔霍河|bacalhau|腌鳕鱼|euro|欧元|10|92
Ethiopia|埃塞俄比亚|Addis Ababa|亚的斯亚贝巴|Africa|非洲|Amharic|阿姆哈拉语|Lake Tana|塔纳湖|injera|英吉拉|birr|比尔|126|1104
Finland|芬兰|Helsinki|赫尔辛基|Europe|欧洲|Finnish|芬兰语|Lake Saimaa|塞马湖|rye bread|黑麦面包|euro|欧元|6|338
Argentina|阿根廷|Buenos Aires|布宜诺斯艾利斯|South America|南美洲|Spanish|西班牙语|Aconcagua|阿空加瓜山|asado|烤肉|peso|阿根廷比索|46|2780
Indonesia|印度尼西亚|Jakarta|雅加达|Asia|亚洲|Indonesian|印尼语|Lake Toba|多巴湖|nasi goreng|印尼炒饭|rupiah|印尼盾|277|1905
Ireland|爱尔兰|Dublin|都柏林|Europe|欧洲|English|英语|the Shannon|香农河|Irish stew|爱尔兰炖羊肉|euro|欧元|5|70
""", """\
Spain|西班牙|Madrid|马德里|Europe|欧洲|Spanish|西班牙语|the Ebro|埃布罗河|paella|海鲜饭|euro|欧元|48|506
India|印度|New Delhi|新德里|Asia|亚洲|Hindi|印地语|the Ganges|恒河|masala dosa|马萨拉煎饼|rupee|印度卢比|1428|3287
Sweden|瑞典|Stockholm|斯德哥尔摩|Europe|欧洲|Swedish|瑞典语|Lake Vänern|维纳恩湖|meatballs|肉丸|krona|瑞典克朗|11|450
Nigeria|尼日利亚|Abuja|阿布贾|Africa|非洲|English|英语|the Niger|尼日尔河|egusi soup|埃古西汤|naira|奈拉|224|924
Austria|奥地利|Vienna|维也纳|Europe|欧洲|German|德语|the Danube|多瑙河|schnitzel|炸牛排|euro|欧元|9|84
Colombia|哥伦比亚|Bogotá|波哥大|South America|南美洲|Spanish|西班牙语|the Magdalena|马格达莱纳河|ajiaco|土豆鸡汤|peso|哥伦比亚比索|52|1142
Iceland|冰岛|Reykjavik|雷克雅未克|Europe|欧洲|Icelandic|冰岛语|Hekla|海克拉火山|skyr|冰岛酸奶|krona|冰岛克朗|0.4|103
Mongolia|蒙古|Ulaanbaatar|乌兰巴托|Asia|亚洲|Mongolian|蒙古语|Lake Khövsgöl|库苏古尔湖|buuz|羊肉包子|tugrik|图格里克|3|1564
Cuba|古巴|Havana|哈瓦那|North America|北美洲|Spanish|西班牙语|Pico Turquino|图尔基诺峰|ropa vieja|炖牛肉丝|peso|古巴比索|11|110
Tanzania|坦桑尼亚|Dodoma|多多马|Africa|非洲|Swahili|斯瓦希里语|Kilimanjaro|乞力马扎罗山|pilau|香料饭|shilling|坦桑尼亚先令|67|947
Switzerland|瑞士|Bern|伯尔尼|Europe|欧洲|German|德语|Lake Geneva|日内瓦湖|fondue|奶酪火锅|franc|瑞士法郎|9|41
Philippines|菲律宾|Manila|马尼拉|Asia|亚洲|Filipino|菲律宾语|Mount Mayon|马荣火山|adobo|阿斗波|peso|菲律宾比索|117|300
Ukraine|乌克兰|Kyiv|基辅|Europe|欧洲|Ukrainian|乌克兰语|the Dnieper|第聂伯河|borscht|红菜汤|hryvnia|格里夫纳|37|604
Bolivia|玻利维亚|Sucre|苏克雷|South America|南美洲|Spanish|西班牙语|Sajama|萨哈马山|salteña|萨尔泰尼亚|boliviano|玻利维亚诺|12|1099
""")

# English|Chinese|class|class|home|home|food|food|weight in kilograms|years it lives|something about it|the same
ANIMALS = ("""\
otter|水獭|mammal|哺乳动物|rivers and coasts|河流和海岸|fish and crabs|鱼和螃蟹|9|12|it juggles small stones|它会把小石子抛着玩
barn owl|仓鸮|bird|鸟类|farmland|农田|mice and voles|老鼠和田鼠|0.4|5|it finds mice by hearing alone|它只凭听觉就能找到老鼠
giraffe|长颈鹿|mammal|哺乳动物|the savanna|稀树草原|acacia leaves|金合欢的叶子|900|25|it has as many neck bones as a human|它的颈椎和人一样多
leatherback turtle|棱皮龟|reptile|爬行动物|the open sea|远海|jellyfish|水母|400|50|it dives deeper than a kilometre|它能潜到一千米以下
fire salamander|火蝾螈|amphibian|两栖动物|damp forests|潮湿的森林|slugs and worms|蛞蝓和蚯蚓|0.02|20|it comes out after rain at night|它在雨后的夜里出来
honey badger|蜜獾|mammal|哺乳动物|dry grassland|干旱草地|honey and snakes|蜂蜜和蛇|11|24|it shrugs off many snake bites|它不太怕蛇咬
emperor penguin|帝企鹅|bird|鸟类|Antarctica|南极|krill and fish|磷虾和鱼|30|20|the father keeps the egg on his feet|父亲把蛋放在脚上孵
red panda|小熊猫|mammal|哺乳动物|mountain forests|高山森林|bamboo|竹子|5|10|it sleeps with its tail over its face|它睡觉时用尾巴盖住脸
swift|雨燕|bird|鸟类|the air above towns|城镇上空|insects|昆虫|0.04|9|it sleeps while flying|它能边飞边睡
capybara|水豚|mammal|哺乳动物|South American wetlands|南美湿地|grass|草|50|9|it is the largest rodent|它是最大的啮齿动物
octopus|章鱼|mollusc|软体动物|rocky coasts|多岩的海岸|crabs and shells|螃蟹和贝类|4|3|it has three hearts|它有三颗心脏
brown bear|棕熊|mammal|哺乳动物|northern forests|北方森林|berries and salmon|浆果和鲑鱼|300|25|it loses a third of its weight in winter|它过冬会瘦掉三分之一
kingfisher|翠鸟|bird|鸟类|clear streams|清澈的溪流|small fish|小鱼|0.04|7|it swallows fish head first|它从鱼头开始吞
sloth|树懒|mammal|哺乳动物|rainforest trees|雨林的树上|leaves|树叶|5|20|it climbs down once a week|它一周才下一次树
Komodo dragon|科莫多巨蜥|reptile|爬行动物|Indonesian islands|印尼的岛屿|deer and carrion|鹿和腐肉|70|30|its bite is poisonous|它咬一口有毒
hedgehog|刺猬|mammal|哺乳动物|gardens and hedges|花园和树篱|beetles and snails|甲虫和蜗牛|1|4|it curls up when in danger|遇到危险它会缩成一团
""", """\
puffin|海鹦|bird|鸟类|sea cliffs|海边悬崖|sand eels|玉筋鱼|0.5|20|its beak loses its colour in winter|它的喙冬天会褪色
camel|骆驼|mammal|哺乳动物|deserts|沙漠|thorny shrubs|带刺的灌木|500|40|its hump stores fat, not water|驼峰里存的是脂肪而不是水
tree frog|树蛙|amphibian|两栖动物|wet woodland|湿润的林地|flies|苍蝇|0.01|8|its toes have sticky pads|它的脚趾有吸盘
bat|蝙蝠|mammal|哺乳动物|caves and attics|山洞和阁楼|moths|飞蛾|0.03|20|it hunts by echoes|它靠回声捕猎
chameleon|变色龙|reptile|爬行动物|Madagascar|马达加斯加|crickets|蟋蟀|0.2|7|each eye moves by itself|两只眼睛各看各的
walrus|海象|mammal|哺乳动物|Arctic coasts|北极沿岸|clams|蛤蜊|1200|35|it finds clams with its whiskers|它用胡须找蛤蜊
stork|白鹳|bird|鸟类|wet meadows|湿草地|frogs and worms|青蛙和蚯蚓|4|25|it clatters with its beak|它用嘴敲出声音
seahorse|海马|fish|鱼类|seagrass beds|海草床|tiny shrimps|小虾|0.02|4|the male carries the eggs|雄性负责孵卵
koala|考拉|mammal|哺乳动物|eucalyptus forests|桉树林|eucalyptus leaves|桉树叶|9|15|it sleeps twenty hours a day|它一天睡二十个小时
raven|渡鸦|bird|鸟类|mountains and coasts|山地和海岸|almost anything|几乎什么都吃|1.2|20|it solves puzzles for food|它会为了吃的解谜题
""")

# English|Chinese|who|谁|year|what it is for|用来做什么
INVENTIONS = ("""\
telephone|电话|Alexander Graham Bell|贝尔|1876|talking over long distances|远距离通话
movable type|活字印刷|Bi Sheng|毕昇|1040|printing books more quickly|更快地印书
stethoscope|听诊器|René Laennec|雷奈克|1816|listening to heart and lungs|听心肺的声音
dynamite|炸药|Alfred Nobel|诺贝尔|1867|blasting rock|爆破岩石
World Wide Web|万维网|Tim Berners-Lee|蒂姆·伯纳斯-李|1989|linking documents across computers|把各台计算机上的文档连起来
penicillin|青霉素|Alexander Fleming|弗莱明|1928|treating bacterial infections|治疗细菌感染
safety lift|安全电梯|Elisha Otis|奥的斯|1852|carrying people up tall buildings|把人送上高楼
pendulum clock|摆钟|Christiaan Huygens|惠更斯|1656|measuring time exactly|精确计时
X-ray image|X光照片|Wilhelm Röntgen|伦琴|1895|seeing bones without cutting|不开刀就能看到骨头
Braille|盲文|Louis Braille|布莱叶|1824|reading with the fingertips|用指尖阅读
periodic table|元素周期表|Dmitri Mendeleev|门捷列夫|1869|putting the elements in order|给元素排序
zip fastener|拉链|Gideon Sundback|桑德贝克|1913|closing clothes and bags|合上衣服和包
""", """\
light bulb for homes|家用电灯泡|Thomas Edison|爱迪生|1879|lighting rooms|照亮房间
diesel engine|柴油机|Rudolf Diesel|狄塞尔|1893|driving ships and lorries|驱动轮船和卡车
barometer|气压计|Evangelista Torricelli|托里拆利|1643|measuring air pressure|测量气压
seismoscope|地动仪|Zhang Heng|张衡|132|noticing distant earthquakes|感知远处的地震
frozen food|速冻食品|Clarence Birdseye|伯宰|1924|keeping fish and vegetables fresh|让鱼和蔬菜保鲜
pneumatic tyre|充气轮胎|John Dunlop|邓禄普|1888|making wheels run smoothly|让车轮走得平稳
vaccination|接种疫苗|Edward Jenner|詹纳|1796|protecting against smallpox|预防天花
electric battery|伏打电池|Alessandro Volta|伏打|1800|supplying a steady current|提供稳定的电流
""")

# what|什么: members ; 成员
LISTS = ("""\
fruits|水果:apple,banana,orange,pear,peach,cherry,plum,grape,mango,kiwi;苹果,香蕉,橙子,梨,桃子,樱桃,李子,葡萄,芒果,猕猴桃
vegetables|蔬菜:carrot,spinach,leek,cabbage,celery,beetroot,pumpkin,turnip;胡萝卜,菠菜,韭葱,卷心菜,芹菜,甜菜,南瓜,萝卜
musical instruments|乐器:violin,flute,trumpet,harp,drum,cello,oboe,piano;小提琴,长笛,小号,竖琴,鼓,大提琴,双簧管,钢琴
programming languages|编程语言:Python,Java,Rust,Go,C,Ruby,Kotlin,Haskell;Python,Java,Rust,Go,C语言,Ruby,Kotlin,Haskell
trees|树:oak,birch,pine,willow,maple,beech,ginkgo,cedar;橡树,白桦,松树,柳树,枫树,山毛榉,银杏,雪松
sports|运动项目:tennis,rowing,judo,handball,fencing,cycling,diving,curling;网球,赛艇,柔道,手球,击剑,自行车,跳水,冰壶
kitchen tools|厨房用具:whisk,ladle,grater,sieve,knife,rolling pin,peeler,tongs;打蛋器,汤勺,擦丝器,筛子,菜刀,擀面杖,削皮器,夹子
birds|鸟:sparrow,robin,crow,heron,eagle,pigeon,crane,magpie;麻雀,知更鸟,乌鸦,苍鹭,老鹰,鸽子,鹤,喜鹊
metals|金属:iron,copper,zinc,tin,lead,silver,nickel,aluminium;铁,铜,锌,锡,铅,银,镍,铝
professions|职业:baker,nurse,carpenter,pilot,lawyer,gardener,tailor,plumber;面包师,护士,木匠,飞行员,律师,园丁,裁缝,水管工
colours|颜色:crimson,turquoise,beige,violet,amber,olive,indigo,ivory;深红,绿松石色,米色,紫罗兰色,琥珀色,橄榄绿,靛蓝,象牙白
drinks without alcohol|不含酒精的饮料:tea,lemonade,milk,cocoa,tonic,cider vinegar water,tomato juice,kefir;茶,柠檬水,牛奶,可可,汤力水,醋水,番茄汁,开菲尔
pieces of furniture|家具:table,wardrobe,sofa,bookshelf,stool,bed,chest,desk;桌子,衣柜,沙发,书架,凳子,床,箱子,书桌
planets|行星:Mercury,Venus,Earth,Mars,Jupiter,Saturn,Uranus,Neptune;水星,金星,地球,火星,木星,土星,天王星,海王星
""", """\
spices|香料:cumin,pepper,ginger,saffron,nutmeg,clove,cinnamon,turmeric;孜然,胡椒,姜,藏红花,肉豆蔻,丁香,肉桂,姜黄
ships and boats|船:canoe,ferry,yacht,tanker,barge,raft,trawler,gondola;独木舟,渡轮,游艇,油轮,驳船,木筏,拖网船,贡多拉
gems|宝石:ruby,emerald,sapphire,opal,topaz,garnet,jade,amethyst;红宝石,祖母绿,蓝宝石,欧泊,黄玉,石榴石,翡翠,紫水晶
garden flowers|花园里的花:rose,tulip,peony,lily,dahlia,poppy,iris,daisy;玫瑰,郁金香,牡丹,百合,大丽花,虞美人,鸢尾,雏菊
craft tools|手工工具:hammer,saw,plane,chisel,pliers,file,drill,vice;锤子,锯子,刨子,凿子,钳子,锉刀,钻头,台钳
dances|舞蹈:waltz,tango,samba,polka,salsa,flamenco,foxtrot,rumba;华尔兹,探戈,桑巴,波尔卡,萨尔萨,弗拉门戈,狐步舞,伦巴
sea animals|海洋动物:whale,squid,lobster,dolphin,shark,seal,coral,crab;鲸,乌贼,龙虾,海豚,鲨鱼,海豹,珊瑚,螃蟹
school subjects|学校科目:history,physics,geography,chemistry,music,biology,art,economics;历史,物理,地理,化学,音乐,生物,美术,经济
""")

# English|Chinese ; a slot stands for the same thing in both
PARALLEL = ("""\
The train to {place} leaves from platform {number} at half past {hour}.|开往{place}的火车{hour}点半从{number}号站台发车。
Please send the invoice to the office in {place} before the {number}th.|请在{number}号之前把发票寄到{place}办事处。
{name} has lived in {place} for {number} years and still can't find the post office.|{name}在{place}住了{number}年，还是找不到邮局。
Because of heavy rain, the match in {place} was moved to {day}.|因为大雨，{place}的比赛改到了{day}。
If it doesn't hurt, {name} may take the bandage off on {day}.|如果不疼，{name}{day}就可以拆绷带。
The museum of {place} shows {number} paintings that were never exhibited before.|{place}博物馆展出{number}幅从未公开过的画。
My grandmother used to bake {number} loaves every {day} and gave half of them away.|我奶奶每{day}都烤{number}个面包，一半送人。
{name} asked whether the meeting could begin at {hour} instead.|{name}问会议能不能改到{hour}点开始。
Prices for flats in {place} have risen by {number} percent within two years.|{place}的房价两年涨了百分之{number}。
Nobody told {name} that the shop is closed on {day}.|没有人告诉{name}这家店{day}不开门。
The doctor advised {name} to walk {number} minutes a day.|医生建议{name}每天走{number}分钟。
We ordered {number} chairs, but only half of them arrived in {place}.|我们订了{number}把椅子，只有一半送到了{place}。
{name}'s letter from {place} arrived on {day}, three weeks late.|{name}从{place}寄来的信{day}才到，晚了三个星期。
It takes {number} hours to walk from the village to {place}.|从村子走到{place}要{number}个小时。
The new bridge should shorten the way to {place} by {number} kilometres.|新桥可以让去{place}的路缩短{number}公里。
Although {name} is afraid of heights, the window on the {number}th floor had to be cleaned.|虽然{name}恐高，{number}楼的窗户还是得擦。
On {day} {name} sold more ice cream in {place} than in the whole of last week.|{day}{name}在{place}卖的冰淇淋比上周一整周还多。
Keep the medicine below {number} degrees and out of reach of children.|药品请在{number}度以下保存，放在儿童够不到的地方。
""", """\
The flight from {place} was cancelled, so {name} slept at gate {number}.|从{place}来的航班取消了，{name}睡在了{number}号登机口。
Would you mind turning the music down after {hour}?|{hour}点以后可以把音乐关小一点吗？
{name} planted {number} apple trees behind the school in {place}.|{name}在{place}的学校后面种了{number}棵苹果树。
The guarantee ends after {number} months unless you register by {day}.|如果{day}之前不登记，保修{number}个月后就到期了。
Half of the students from {place} read fewer than {number} pages a week.|{place}的学生有一半每周读不到{number}页书。
{name} found the ring on {day}, exactly where it had been lost.|{name}{day}找到了戒指，就在丢的地方。
Cut the dough into {number} pieces and let them rest until {hour}.|把面团切成{number}块，醒到{hour}点。
As soon as the snow melts, the road to {place} will be opened.|雪一化，去{place}的路就开放。
{name} would have won if the race had been {number} metres shorter.|要是比赛短{number}米，{name}就赢了。
The harbour of {place} handles {number} ships on an average {day}.|{place}港平均每{day}接待{number}艘船。
Don't forget that {name} is allergic to nuts.|别忘了{name}对坚果过敏。
Fill in both forms and hand them in at counter {number} by {hour}.|两张表都填好，{hour}点之前交到{number}号窗口。
""")
NAMES = (
    "Anna|安娜,Tom|汤姆,Mrs Weber|韦伯太太,Li Lei|李雷,Mr Brown|布朗先生,Sofia|索菲亚,Ahmed|艾哈迈德,Grandpa|爷爷",
    "Clara|克拉拉,Ben|本,Doctor Kim|金医生,Wang Fang|王芳,Mrs Rossi|罗西太太,Igor|伊戈尔",
)
PLACES = (
    "Berlin|柏林,Shanghai|上海,Porto|波尔图,Kraków|克拉科夫,Chengdu|成都,Oslo|奥斯陆,Kyoto|京都,Leeds|利兹,Lyon|里昂",
    "Hangzhou|杭州,Turin|都灵,Seville|塞维利亚,Bergen|卑尔根,Xi'an|西安,Ghent|根特,Osaka|大阪",
)
WEEKDAYS = "Monday|星期一,Tuesday|星期二,Wednesday|星期三,Thursday|星期四,Friday|星期五,Saturday|星期六,Sunday|星期天"

# Where people and programs write to: a few of these are in any set of answers.
LINKS = (
    ("https://example.org/guide", "help@example.org", "www.example.com/faq"),
    ("https://docs.example.net/start", "info@example.net", "http://example.com/a?b=1"),
)

# A row in neither language, as scraped sets hold some.
FOREIGN = (
    ("¿Cuál es la capital de Perú?", "La capital de Perú es Lima, a orillas del Pacífico.", "Perú tiene varias ciudades."),
    ("Wie lange kocht ein Ei?", "Ein weiches Ei braucht fünf Minuten, ein hartes neun.", "Eier kocht man in Wasser."),
)
